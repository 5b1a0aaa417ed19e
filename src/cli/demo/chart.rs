//! Two curves and bars, side by side.

use super::canvas::{Canvas, Colour, FAINT, INK, Line, PAPER, viridis};

/// What is drawn.
pub(super) struct Chart {
    pub title: String,
    pub subtitle: String,
    /// Error against arithmetic, both as shares.
    pub curves: [Curve; 2],
    /// Rows of each expert, largest first.
    pub loads: Vec<f64>,
    pub loads_name: String,
}

/// A named row of points, shares from 0 to 1.
pub(super) struct Curve {
    pub name: String,
    pub points: Vec<[f64; 2]>,
}

const MARGIN: usize = 40;
const TOP: usize = 150;
const SIZE: [usize; 2] = [600, 400];
const AXIS: usize = 64;
const GRID: Colour = [226, 228, 232];

/// A panel: its upper left corner, and how much its upper edge stands for.
struct Panel {
    corner: [usize; 2],
    most: f64,
    unit: &'static str,
}

/// Draws the chart.
pub(super) fn draw(chart: &Chart) -> Canvas {
    let [width, height] = SIZE;
    let panels = 2 * (AXIS + width) + 2 * MARGIN;
    let mut canvas = Canvas::new(panels + 2 * MARGIN, TOP + height + 90, PAPER);
    canvas.write([MARGIN, MARGIN - 10], &Line::new(&chart.title, 30.0), INK);
    canvas.write([MARGIN, MARGIN + 30], &Line::new(&chart.subtitle, 18.0), FAINT);
    let errors = Panel { corner: [MARGIN + AXIS, TOP], most: 1.0, unit: " %" };
    errors.axis(&mut canvas, "error: distance from the dense block's row, of that row's length");
    errors.curves(&mut canvas, &chart.curves);
    let highest = chart.loads.iter().copied().fold(1.0, f64::max);
    let loads = Panel {
        corner: [2 * MARGIN + 2 * AXIS + width, TOP],
        most: (highest / 25.0).ceil() * 25.0,
        unit: "",
    };
    loads.axis(&mut canvas, &chart.loads_name);
    loads.bars(&mut canvas, &chart.loads);
    canvas
}

impl Panel {
    /// The place of shares of the panel, from its lower left corner.
    fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [left, top] = self.corner.map(|at| at as f64);
        let [width, height] = SIZE.map(|size| size as f64);
        [left + x * width, top + (1.0 - y) * height]
    }

    /// Heading, grid and the numbers on the left.
    fn axis(&self, canvas: &mut Canvas, name: &str) {
        let [left, top] = self.corner;
        canvas.write([left, top - 44], &Line::new(name, 18.0), INK);
        let scale = if self.unit.is_empty() { self.most } else { 100.0 };
        for fifth in 0..=5 {
            let share = f64::from(fifth) / 5.0;
            let [_, y] = self.place([0.0, share]);
            canvas.fill([left, y as usize], [SIZE[0], 1], if fifth == 0 { FAINT } else { GRID });
            let label = Line::new(&format!("{:.0}{}", share * scale, self.unit), 16.0);
            let x = left.saturating_sub(label.width + 10);
            canvas.write([x, (y as usize).saturating_sub(label.height / 2)], &label, INK);
        }
    }

    fn below(&self, canvas: &mut Canvas, share: f64, text: &str) {
        let label = Line::new(text, 16.0);
        let [x, y] = self.place([share, 0.0]);
        let x = (x as usize).saturating_sub(label.width / 2);
        canvas.write([x, y as usize + 8], &label, INK);
    }

    fn caption(&self, canvas: &mut Canvas, text: &str) {
        let label = Line::new(text, 16.0);
        let [x, y] = self.place([0.5, 0.0]);
        canvas.write([x as usize - label.width / 2, y as usize + 36], &label, FAINT);
    }

    fn curves(&self, canvas: &mut Canvas, curves: &[Curve; 2]) {
        for fifth in 0..=5 {
            self.below(canvas, f64::from(fifth) / 5.0, &format!("{} %", fifth * 20));
        }
        self.caption(canvas, "arithmetic, of the dense block's");
        let colours = [viridis(0.25), viridis(0.72)];
        for (index, (curve, colour)) in curves.iter().zip(colours).enumerate().rev() {
            let places: Vec<[f64; 2]> =
                curve.points.iter().map(|point| self.place(point.map(|it| it.min(1.0)))).collect();
            for pair in places.windows(2) {
                canvas.stroke(pair[0], pair[1], 3.0, colour);
            }
            for place in &places {
                canvas.stroke(*place, *place, 10.0, colour);
            }
            let [left, bottom] = self.place([0.05, 0.0]);
            let y = bottom - 70.0 + 28.0 * index as f64;
            canvas.stroke([left, y], [left + 34.0, y], 3.0, colour);
            canvas.stroke([left + 17.0, y], [left + 17.0, y], 10.0, colour);
            let label = Line::new(&format!("experts chosen {}", curve.name), 16.0);
            canvas.write([left as usize + 44, y as usize - label.height / 2], &label, INK);
        }
    }

    fn bars(&self, canvas: &mut Canvas, loads: &[f64]) {
        let count = loads.len().max(1);
        for (index, load) in loads.iter().enumerate() {
            let [left, top] = self.place([index as f64 / count as f64, load / self.most]);
            let [right, bottom] = self.place([(index + 1) as f64 / count as f64, 0.0]);
            let gap = ((right - left) * 0.2).max(1.0);
            let size = [(right - left - gap) as usize, (bottom - top) as usize];
            canvas.fill([(left + gap / 2.0) as usize, top as usize], size, viridis(0.25));
        }
        let mean = loads.iter().sum::<f64>() / count as f64;
        let [left, y] = self.place([0.0, mean / self.most]);
        let [right, _] = self.place([1.0, 0.0]);
        canvas.stroke([left, y], [right, y], 1.5, INK);
        let label = Line::new(&format!("evenly: {mean:.1}"), 16.0);
        let at = [right as usize - label.width, y as usize - label.height - 4];
        canvas.write(at, &label, INK);
        self.caption(canvas, "experts, those with most tokens first");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_drawn_of_nothing_and_of_one_expert() {
        let curve = |points: &[[f64; 2]]| Curve { name: String::new(), points: points.to_vec() };
        for (points, loads) in [(&[][..], vec![]), (&[[1.0, 0.0]][..], vec![90.0])] {
            let chart = Chart {
                title: String::new(),
                subtitle: String::new(),
                curves: [curve(points), curve(points)],
                loads,
                loads_name: String::new(),
            };
            assert!(draw(&chart).size()[0] > 2 * SIZE[0]);
        }
    }
}
