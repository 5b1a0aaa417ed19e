//! A picture of pixels: rectangles, text, PNG.

use std::path::Path;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};

use crate::cli::common::CliError;
use crate::cli::output::write_file;

/// See `assets/README.md`.
const FONT: &[u8] = include_bytes!("../../../assets/DejaVuSans-latin.ttf");

pub(super) type Colour = [u8; 3];

pub(super) const PAPER: Colour = [255, 255, 255];
pub(super) const INK: Colour = [28, 30, 34];
pub(super) const FAINT: Colour = [110, 114, 122];

/// RGB pixels, row by row.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

/// A written line as coverage, 0 to 1 a pixel; its baseline is `baseline` rows below its top.
pub(super) struct Line {
    pub width: usize,
    pub height: usize,
    coverage: Vec<f32>,
}

impl Line {
    /// Writes a line with letters of this size in pixels, from the highest to the lowest.
    pub fn new(text: &str, size: f32) -> Self {
        let Ok(font) = FontRef::try_from_slice(FONT) else {
            return Self { width: 0, height: 0, coverage: Vec::new() };
        };
        let font = font.as_scaled(PxScale::from(size));
        let mut glyphs = Vec::new();
        let (mut x, mut last) = (0.0, None::<GlyphId>);
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            x += last.map_or(0.0, |last| font.kern(last, id));
            glyphs.push(id.with_scale_and_position(font.scale(), point(x, font.ascent())));
            x += font.h_advance(id);
            last = Some(id);
        }
        let (width, height) = (x.ceil() as usize, font.height().ceil() as usize);
        let mut line = Self { width, height, coverage: vec![0.0; width * height] };
        for glyph in glyphs {
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, share| {
                line.cover(corner.x as i64 + i64::from(dx), corner.y as i64 + i64::from(dy), share);
            });
        }
        line
    }

    fn cover(&mut self, x: i64, y: i64, share: f32) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < self.width && y < self.height {
            let at = &mut self.coverage[y * self.width + x];
            *at = at.max(share);
        }
    }

    /// The same, read from bottom to top.
    pub fn upright(&self) -> Self {
        let (width, height) = (self.height, self.width);
        let from = |x: usize, y: usize| self.coverage[x * self.width + (self.width - 1 - y)];
        let coverage = (0..width * height).map(|at| from(at % width, at / width)).collect();
        Self { width, height, coverage }
    }
}

impl Canvas {
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    /// Width and height.
    #[cfg(test)]
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// Fills a rectangle, as much of it as lies within.
    pub fn fill(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], colour: Colour) {
        for row in y..(y + height).min(self.height) {
            let (start, end) = (x.min(self.width), (x + width).min(self.width));
            self.pixels[row * self.width..][start..end].fill(colour);
        }
    }

    /// Lays a line over what is there, its upper left corner at `x, y`.
    pub fn write(&mut self, [x, y]: [usize; 2], line: &Line, colour: Colour) {
        for (at, &share) in line.coverage.iter().enumerate() {
            let (px, py) = (x + at % line.width, y + at / line.width);
            if px < self.width && py < self.height {
                self.mix([px, py], share, colour);
            }
        }
    }

    fn mix(&mut self, [x, y]: [usize; 2], share: f32, colour: Colour) {
        for (old, new) in self.pixels[y * self.width + x].iter_mut().zip(colour) {
            *old = (f32::from(*old) * (1.0 - share) + f32::from(new) * share).round() as u8;
        }
    }

    /// Draws a line with round ends; from a place to itself it is a dot.
    pub fn stroke(&mut self, from: [f64; 2], to: [f64; 2], thickness: f64, colour: Colour) {
        let reach = thickness / 2.0 + 1.0;
        let pixels = |axis: usize, most: usize| {
            let (low, high) = (from[axis].min(to[axis]), from[axis].max(to[axis]));
            (low - reach).max(0.0) as usize..((high + reach).max(0.0).ceil() as usize).min(most)
        };
        let along = [to[0] - from[0], to[1] - from[1]];
        let square = along[0] * along[0] + along[1] * along[1];
        let (rows, columns) = (pixels(1, self.height), pixels(0, self.width));
        for (y, x) in rows.flat_map(|y| columns.clone().map(move |x| (y, x))) {
            let at = [x as f64 + 0.5 - from[0], y as f64 + 0.5 - from[1]];
            let dot = at[0] * along[0] + at[1] * along[1];
            let share = if square > 0.0 { (dot / square).clamp(0.0, 1.0) } else { 0.0 };
            let distance = (at[0] - share * along[0]).hypot(at[1] - share * along[1]);
            let covered = (thickness / 2.0 - distance + 0.5).clamp(0.0, 1.0);
            self.mix([x, y], covered as f32, colour);
        }
    }

    /// Writes a PNG file.
    pub fn save(&self, path: &Path) -> Result<(), CliError> {
        let bytes =
            self.png().map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))?;
        write_file(path, &bytes)
    }

    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// The viridis map (van der Walt and Smith 2015, CC0), from 0 to 1: even steps look even, in grey too.
pub(super) fn viridis(value: f64) -> Colour {
    const STOPS: [u32; 10] = [
        0x44_01_54, 0x48_28_78, 0x3e_49_89, 0x31_68_8e, 0x26_82_8e, 0x1f_9e_89, 0x35_b7_79,
        0x6e_ce_58, 0xb5_de_2b, 0xfd_e7_25,
    ];
    let place = value.clamp(0.0, 1.0) * 9.0;
    let stop = (place as usize).min(8);
    let channel = |index: usize, shift: u32| f64::from((STOPS[index] >> shift) & 0xff);
    let mixed = |shift| {
        let (low, high) = (channel(stop, shift), channel(stop + 1, shift));
        (low + (high - low) * (place - stop as f64)).round() as u8
    };
    [mixed(16), mixed(8), mixed(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stroke_covers_its_thickness_and_stays_within() {
        let mut canvas = Canvas::new(20, 10, PAPER);
        canvas.stroke([4.0, 5.0], [30.0, 5.0], 4.0, INK);
        let at = |x: usize, y: usize| canvas.pixels[y * 20 + x];
        assert_eq!((at(10, 4), at(10, 5), at(10, 8)), (INK, INK, PAPER));
        assert_eq!((at(19, 5), at(0, 5)), (INK, PAPER));
    }

    #[test]
    fn the_map_ends_where_viridis_ends_and_letters_are_drawn() {
        assert_eq!(viridis(0.0), [0x44, 0x01, 0x54]);
        assert_eq!(viridis(2.0), [0xfd, 0xe7, 0x25]);
        let line = Line::new("tile", 20.0);
        assert!(line.width > 20 && line.coverage.iter().any(|&share| share > 0.9));
        let upright = line.upright();
        assert_eq!((upright.width, upright.height), (line.height, line.width));
    }
}
