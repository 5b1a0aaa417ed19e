//! Charts as SVG that stands in a page: colours are the page's, by class.

use std::fmt::Write as _;

use crate::cli::output::digits;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
/// Left, right, top, bottom of where points lie.
const PLOT: [f64; 4] = [64.0, 740.0, 16.0, 330.0];

/// A chart of points over two axes.
pub(super) struct Chart {
    pub x: Scale,
    pub y: Scale,
    pub series: Vec<Series>,
}

/// An axis.
pub(super) struct Scale {
    pub label: String,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    logarithmic: bool,
}

/// Points that belong together.
pub(super) struct Series {
    pub name: String,
    pub points: Vec<Point>,
    pub style: Style,
}

/// How a series is drawn; the number is that of its colour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A line through marked points.
    Line(usize),
    /// Marks alone, each with its word beside it.
    Points(usize),
    /// A thin line: what cannot be passed.
    Limit,
}

/// A point and what is told of it.
#[derive(Clone)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
    /// Beside the point.
    pub word: String,
    /// Where the pointer rests on it.
    pub title: String,
}

impl Style {
    /// The class that the page's colours go by.
    pub fn class(self) -> String {
        match self {
            Self::Limit => "limit".to_owned(),
            Self::Line(colour) | Self::Points(colour) => format!("s{colour}"),
        }
    }
}

impl Scale {
    /// From 0 to beyond the largest value, in even steps.
    pub fn linear(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(1e-9);
        let power = 10f64.powf((most / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| most / step <= 6.0).unwrap_or(10.0 * power);
        let count = (most * 1.02 / step).ceil();
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step).collect();
        Self { label: label.to_owned(), low: 0.0, high: count * step, ticks, logarithmic: false }
    }

    /// Whole powers of `base` around the values.
    pub fn logarithmic(label: &str, base: f64, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        let (least, most) = if most > 0.0 { (least, most) } else { (1.0, base) };
        let first = (least.log(base) + 1e-9).floor();
        let last = (most.log(base) - 1e-9).ceil().max(first + 1.0);
        // No more ticks than have room.
        let step = ((last - first) / 10.0).ceil().max(1.0);
        let ticks = (0..=((last - first) / step) as u32)
            .map(|tick| base.powf(first + f64::from(tick) * step));
        Self {
            label: label.to_owned(),
            low: base.powf(first),
            high: base.powf(last),
            ticks: ticks.collect(),
            logarithmic: true,
        }
    }

    pub fn range(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// From 0 at the low end to 1 at the high one.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.logarithmic { value.ln() } else { value };
        (place(value) - place(self.low)) / (place(self.high) - place(self.low))
    }
}

impl Chart {
    fn place(&self, point: &Point) -> [f64; 2] {
        let [left, right, top, bottom] = PLOT;
        let x = left + self.x.share(point.x).clamp(0.0, 1.0) * (right - left);
        let y = bottom - self.y.share(point.y).clamp(0.0, 1.0) * (bottom - top);
        [x, y]
    }

    /// The whole as an `svg` element.
    pub fn svg(&self, about: &str) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(about)
        );
        self.axes(&mut svg);
        let mut words = Words::default();
        let marked = self.series.iter().filter(|series| series.style != Style::Limit);
        for point in marked.flat_map(|series| &series.points) {
            words.keep_clear(self.place(point));
        }
        self.series.iter().for_each(|series| self.draw(series, &mut words, &mut svg));
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String) {
        self.ticks(svg);
        let [left, right, top, bottom] = PLOT;
        let (middle, centre) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 8.0,
            escaped(&self.x.label)
        );
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"14\" y=\"{centre}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {centre})\">{}</text>",
            escaped(&self.y.label)
        );
    }

    /// Lines through the plot, and the numbers at their ends.
    fn ticks(&self, svg: &mut String) {
        let [left, right, top, bottom] = PLOT;
        for &tick in &self.x.ticks {
            let x = left + self.x.share(tick) * (right - left);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
            );
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                number(tick)
            );
        }
        for &tick in &self.y.ticks {
            let y = bottom - self.y.share(tick) * (bottom - top);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            );
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + 4.0,
                number(tick)
            );
        }
    }

    fn draw(&self, series: &Series, words: &mut Words, svg: &mut String) {
        let places: Vec<[f64; 2]> = series.points.iter().map(|point| self.place(point)).collect();
        let class = series.style.class();
        if !matches!(series.style, Style::Points(_)) {
            let path: Vec<String> = places.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
        }
        if series.style == Style::Limit {
            return;
        }
        for (point, [x, y]) in series.points.iter().zip(places) {
            let _ = writeln!(
                svg,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"><title>{}</title></circle>",
                escaped(&point.title)
            );
            if let Some([x, y]) = words.place(&point.word, [x, y]) {
                let _ = writeln!(
                    svg,
                    "<text class=\"word\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                    escaped(&point.word)
                );
            }
        }
    }
}

/// Where words and marks stand, so that no other word is written over them.
#[derive(Default)]
struct Words(Vec<[f64; 4]>);

impl Words {
    fn keep_clear(&mut self, [x, y]: [f64; 2]) {
        self.0.push([x - 5.0, y - 5.0, x + 5.0, y + 5.0]);
    }

    /// Where a word beside a point has room, if anywhere.
    fn place(&mut self, word: &str, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        let width = 6.7 * word.chars().count() as f64;
        let beside = [
            [x - width / 2.0, y - 9.0],
            [x - width / 2.0, y + 18.0],
            [x + 8.0, y + 4.0],
            [x - width - 8.0, y + 4.0],
            [x + 7.0, y - 7.0],
            [x - width - 7.0, y - 7.0],
            [x + 7.0, y + 15.0],
            [x - width - 7.0, y + 15.0],
        ];
        let [_, _, top, bottom] = PLOT;
        let free = |place: &[f64; 2]| {
            let [x0, y0, x1, y1] = taken(*place, width);
            let inside = x0 > 0.0 && x1 < WIDTH && y0 > top && y1 < bottom;
            inside && self.0.iter().all(|[a, b, c, d]| x1 <= *a || *c <= x0 || y1 <= *b || *d <= y0)
        };
        let place = beside.into_iter().find(free)?;
        self.0.push(taken(place, width));
        Some(place)
    }
}

/// Left, top, right and bottom of a word that starts at a place on its base line.
fn taken([x, y]: [f64; 2], width: f64) -> [f64; 4] {
    [x, y - 10.0, x + width, y + 3.0]
}

/// Text as it stands in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A tick's number.
fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 && value.fract() == 0.0 && value < 1e6 => {
            let (thousands, rest) = (value as u64 / 1000, value as u64 % 1000);
            format!("{thousands},{rest:03}")
        }
        value if (value.fract()).abs() < 1e-9 && value < 1000.0 => format!("{value:.0}"),
        value if value < 1.0 => value.to_string(),
        value => digits(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let linear = Scale::linear("", [3.0, 17.0].into_iter());
        assert_eq!(linear.ticks, [0.0, 5.0, 10.0, 15.0, 20.0]);
        let doubled = Scale::logarithmic("", 2.0, [128.0, 2048.0].into_iter());
        assert_eq!(
            doubled.ticks.iter().map(|tick| tick.round()).collect::<Vec<_>>(),
            [128.0, 256.0, 512.0, 1024.0, 2048.0]
        );
        let wide = Scale::logarithmic("", 2.0, [1.0, 1e6].into_iter());
        assert!(wide.ticks.len() <= 11 && wide.high >= 1e6);
        let single = Scale::logarithmic("", 10.0, [10.0].into_iter());
        assert!(single.range() == [10.0, 100.0]);
    }

    #[test]
    fn words_do_not_cover_each_other_or_a_point() {
        let mut words = Words::default();
        let points = [[300.0, 200.0], [304.0, 202.0], [300.0, 206.0]];
        points.iter().for_each(|point| words.keep_clear(*point));
        for point in points {
            words.place("12", point);
        }
        let boxes = &words.0;
        for (index, a) in boxes.iter().enumerate().skip(points.len()) {
            for b in &boxes[..index] {
                assert!(a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1]);
            }
        }
    }
}
