//! The map of who looks at whom.

use super::canvas::{Canvas, Colour, Line, viridis};
use super::encoder::Word;

/// What is drawn.
pub(super) struct Picture<'a> {
    pub title: String,
    pub subtitle: String,
    pub words: &'a [Word],
    /// A row for each word that looks, a column for each that is looked at.
    pub weights: &'a [Vec<f64>],
}

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [28, 30, 34];
const FAINT: Colour = [110, 114, 122];
const MARGIN: usize = 32;
const BAR_WIDTH: usize = 18;

/// Where things lie, in pixels.
struct Frame {
    cell: usize,
    /// Upper left corner of the map.
    corner: [usize; 2],
    /// Side of the map.
    side: usize,
    letters: f32,
}

/// Draws the map.
pub(super) fn draw(picture: &Picture<'_>) -> Canvas {
    let count = picture.words.len();
    let cell = (1100 / count.max(1)).clamp(20, 44);
    let letters = (cell as f32 * 0.85).min(22.0);
    let labels: Vec<Line> =
        picture.words.iter().map(|word| Line::new(&word.text, letters)).collect();
    let widest = labels.iter().map(|line| line.width).max().unwrap_or(0);
    let corner = [MARGIN + 26 + widest + 10, MARGIN + 106 + widest + 10];
    let frame = Frame { cell, corner, side: cell * count, letters };
    let heading = Line::new(&picture.title, 30.0);
    let width =
        (corner[0] + frame.side + 28 + BAR_WIDTH + 110).max(MARGIN + heading.width) + MARGIN;
    let mut canvas = Canvas::new(width, corner[1] + frame.side + MARGIN, PAPER);
    canvas.write([MARGIN, MARGIN - 8], &heading, INK);
    canvas.write([MARGIN, MARGIN + 28], &Line::new(&picture.subtitle, 18.0), FAINT);
    let most = brightest(picture);
    draw_labels(&mut canvas, &frame, &labels);
    draw_cells(&mut canvas, &frame, picture, most);
    draw_bar(&mut canvas, &frame, most, picture);
    canvas
}

/// The weight that has the brightest colour: the largest between words, since markers would outshine them all.
fn brightest(picture: &Picture<'_>) -> f64 {
    let mut most: f64 = 0.0;
    for row in picture.weights {
        for (word, &weight) in picture.words.iter().zip(row) {
            if !word.is_marker() {
                most = most.max(weight);
            }
        }
    }
    if most > 0.0 { most } else { 1.0 }
}

fn draw_labels(canvas: &mut Canvas, frame: &Frame, labels: &[Line]) {
    let Frame { cell, corner, side, letters } = *frame;
    for (index, line) in labels.iter().enumerate() {
        let middle = index * cell + cell / 2;
        let [left, top] = corner;
        let row = [left - 10 - line.width, (top + middle).saturating_sub(line.height / 2)];
        canvas.write(row, line, INK);
        let column = line.upright();
        let at = [(left + middle).saturating_sub(column.width / 2), top - 10 - column.height];
        canvas.write(at, &column, INK);
    }
    let looked_at = Line::new("is looked at \u{2192}", letters.min(18.0));
    canvas.write([corner[0], MARGIN + 64], &looked_at, FAINT);
    let looks = Line::new("\u{2190} this word", letters.min(18.0)).upright();
    let top = corner[1] + (side.saturating_sub(looks.height)).min(0);
    canvas.write([MARGIN - 6, top], &looks, FAINT);
}

fn draw_cells(canvas: &mut Canvas, frame: &Frame, picture: &Picture<'_>, most: f64) {
    let gap = if frame.cell >= 24 { 2 } else { 1 };
    for (row, weights) in picture.weights.iter().enumerate() {
        for (column, &weight) in weights.iter().enumerate() {
            let at = [frame.corner[0] + column * frame.cell, frame.corner[1] + row * frame.cell];
            canvas.fill(at, [frame.cell - gap; 2], viridis(weight / most));
        }
    }
}

/// The colour bar with five ticks; its top stands for all that is brighter, too.
fn draw_bar(canvas: &mut Canvas, frame: &Frame, most: f64, picture: &Picture<'_>) {
    let [x, top] = [frame.corner[0] + frame.side + 28, frame.corner[1]];
    let height = frame.side.min(420);
    for row in 0..height {
        let value = 1.0 - row as f64 / (height - 1).max(1) as f64;
        canvas.fill([x, top + row], [BAR_WIDTH, 1], viridis(value));
    }
    let clipped = picture.weights.iter().flatten().any(|&weight| weight > most * 1.0001);
    for tick in 0..=4u32 {
        let share = f64::from(tick) / 4.0;
        let y = top + ((1.0 - share) * (height - 1) as f64).round() as usize;
        canvas.fill([x + BAR_WIDTH, y], [5, 1], INK);
        let sign = if tick == 4 && clipped { "\u{2265} " } else { "" };
        let label = Line::new(&format!("{sign}{:.1} %", share * most * 100.0), 16.0);
        canvas.write([x + BAR_WIDTH + 10, y.saturating_sub(label.height / 2)], &label, INK);
    }
    let caption = Line::new("attention", 16.0);
    canvas.write([x, top.saturating_sub(caption.height + 8)], &caption, FAINT);
}
