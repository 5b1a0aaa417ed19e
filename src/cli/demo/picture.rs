//! The map of who looks at whom.

use super::canvas::{Canvas, FAINT, INK, Line, PAPER, viridis};
use super::encoder::Word;

/// What is drawn.
pub(super) struct Picture<'a> {
    pub title: String,
    pub subtitle: String,
    pub words: &'a [Word],
    /// A row for each word that looks, a column for each that is looked at.
    pub weights: &'a [Vec<f64>],
}

const MARGIN: usize = 32;
const BAR_WIDTH: usize = 18;
const BAR_GAP: usize = 30;

/// Where things lie, in pixels.
struct Frame {
    cell: usize,
    /// Upper left corner of the map.
    corner: [usize; 2],
    /// Side of the map.
    side: usize,
}

/// Draws the map.
pub(super) fn draw(picture: &Picture<'_>) -> Canvas {
    let count = picture.words.len();
    let cell = (1100 / count.max(1)).clamp(20, 44);
    let letters = (cell as f32 * 0.85).min(22.0);
    let labels: Vec<Line> =
        picture.words.iter().map(|word| Line::new(&word.text, letters)).collect();
    let widest = labels.iter().map(|line| line.width).max().unwrap_or(0);
    let corner = [MARGIN + 24 + widest + 10, MARGIN + 100 + widest + 10];
    let frame = Frame { cell, corner, side: cell * count };
    let headings = [Line::new(&picture.title, 30.0), Line::new(&picture.subtitle, 18.0)];
    let widest = headings.iter().map(|line| line.width).max().unwrap_or(0);
    let right = (corner[0] + frame.side + BAR_GAP + BAR_WIDTH + 84).max(MARGIN + widest);
    let mut canvas = Canvas::new(right + MARGIN, corner[1] + frame.side + MARGIN, PAPER);
    canvas.write([MARGIN, MARGIN - 8], &headings[0], INK);
    canvas.write([MARGIN, MARGIN + 30], &headings[1], FAINT);
    let most = picture.weights.iter().flatten().copied().fold(0.0, f64::max);
    let most = if most > 0.0 { most } else { 1.0 };
    draw_labels(&mut canvas, &frame, &labels);
    draw_cells(&mut canvas, &frame, picture, most);
    draw_bar(&mut canvas, &frame, most);
    canvas
}

fn draw_labels(canvas: &mut Canvas, frame: &Frame, labels: &[Line]) {
    let Frame { cell, corner, side } = *frame;
    for (index, line) in labels.iter().enumerate() {
        let middle = index * cell + cell / 2;
        let [left, top] = corner;
        let row = [left - 10 - line.width, (top + middle).saturating_sub(line.height / 2)];
        canvas.write(row, line, INK);
        let column = line.upright();
        let at = [(left + middle).saturating_sub(column.width / 2), top - 10 - column.height];
        canvas.write(at, &column, INK);
    }
    let columns = Line::new("column: a word that is looked at", 16.0);
    canvas.write([corner[0], MARGIN + 68], &columns, FAINT);
    let rows = Line::new("row: a word that looks", 16.0).upright();
    canvas.write([MARGIN - 6, corner[1] + side.saturating_sub(rows.height)], &rows, FAINT);
}

fn draw_cells(canvas: &mut Canvas, frame: &Frame, picture: &Picture<'_>, most: f64) {
    let gap = if frame.cell >= 24 { 2 } else { 1 };
    for (row, weights) in picture.weights.iter().enumerate() {
        for (column, &weight) in weights.iter().enumerate() {
            let at = [frame.corner[0] + column * frame.cell, frame.corner[1] + row * frame.cell];
            canvas.fill(at, [frame.cell - gap; 2], viridis((weight / most).sqrt()));
        }
    }
}

/// Shares that a tick may stand at.
const TICKS: [f64; 13] = [0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8];

/// The colour bar. Colours go by the root of the share, so that small ones are told apart too.
fn draw_bar(canvas: &mut Canvas, frame: &Frame, most: f64) {
    let [x, top] = [frame.corner[0] + frame.side + BAR_GAP, frame.corner[1]];
    let height = frame.side.min(420);
    for row in 0..height {
        let value = 1.0 - row as f64 / (height - 1).max(1) as f64;
        canvas.fill([x, top + row], [BAR_WIDTH, 1], viridis(value));
    }
    let mut last = f64::INFINITY;
    for share in TICKS.into_iter().filter(|share| *share <= most) {
        let y = (1.0 - (share / most).sqrt()) * height.saturating_sub(1) as f64;
        if last - y < 24.0 {
            continue;
        }
        last = y;
        let y = top + y.round() as usize;
        canvas.fill([x + BAR_WIDTH, y], [5, 1], INK);
        let label = Line::new(&format!("{} %", (share * 1e6).round() / 1e4), 16.0);
        canvas.write([x + BAR_WIDTH + 10, y.saturating_sub(label.height / 2)], &label, INK);
    }
    let caption = Line::new("attention", 16.0);
    canvas.write([x, top.saturating_sub(caption.height + 10)], &caption, FAINT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_drawn_for_one_word_and_for_none() {
        let word = Word { text: "word".to_owned(), tokens: 0..1 };
        let of = |words: &[Word], weights: &[Vec<f64>]| {
            let (title, subtitle) = (String::new(), String::new());
            draw(&Picture { title, subtitle, words, weights }).size()
        };
        assert!(of(&[word], &[vec![1.0]]) > of(&[], &[]));
    }
}
