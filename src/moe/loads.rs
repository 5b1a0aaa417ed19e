//! What experts may expect to do, before any token is there.

use super::problem::MoeProblem;
use super::routing::Router;

/// What an expert does where every token chooses its experts by chance, each choice as likely as another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loads {
    /// Mean number of its rows.
    pub rows: f64,
    /// How likely it has any.
    pub busy: f64,
    /// Mean number of its row tiles.
    pub tiles: f64,
}

impl MoeProblem {
    /// What each expert with weights may expect, with row tiles of `tile_rows`.
    pub fn loads(&self, tile_rows: u32) -> Loads {
        let e = &self.extents;
        let share = (f64::from(e.top_k) / f64::from(e.choices())).min(1.0);
        match self.spec.router {
            Router::ExpertChoice { capacity } => {
                Loads::of([(f64::from(capacity.min(e.tokens)), 1.0)], tile_rows)
            }
            Router::Soft { slots } => Loads::of([(f64::from(slots), 1.0)], tile_rows),
            Router::TokenChoice(_) | Router::External => {
                let most = self.capacity().map_or(f64::INFINITY, |capacity| {
                    f64::from(capacity.rows) * f64::from(capacity.sequences)
                });
                let rows = binomial(e.tokens, share).map(|(rows, p)| (rows.min(most), p));
                Loads::of(rows, tile_rows)
            }
        }
    }
}

impl Loads {
    /// Of numbers of rows, and how likely each is.
    fn of(rows: impl IntoIterator<Item = (f64, f64)>, tile_rows: u32) -> Self {
        let mut loads = Self { rows: 0.0, busy: 0.0, tiles: 0.0 };
        for (rows, likely) in rows {
            loads.rows += likely * rows;
            loads.busy += if rows > 0.0 { likely } else { 0.0 };
            loads.tiles += likely * (rows / f64::from(tile_rows)).ceil();
        }
        loads
    }
}

/// How many of `count` come true when each does with the probability `share`: every number, and how likely it is.
fn binomial(count: u32, share: f64) -> impl Iterator<Item = (f64, f64)> {
    let certain = share >= 1.0;
    let total = f64::from(count);
    // Logarithms: the ends are less likely than f64 can say.
    let mut log = total * (1.0 - share).ln();
    (0..=count).map(move |rows| {
        let rows = f64::from(rows);
        if certain {
            return (rows, if rows == total { 1.0 } else { 0.0 });
        }
        let likely = log.exp();
        log += ((total - rows) / (rows + 1.0)).ln() + (share / (1.0 - share)).ln();
        (rows, likely)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_add_up_and_have_their_mean() {
        for (count, share) in
            [(0, 0.3), (1, 0.3), (7, 0.25), (5000, 0.125), (100_000, 1e-3), (9, 1.0)]
        {
            let loads = Loads::of(binomial(count, share), 1);
            let sum: f64 = binomial(count, share).map(|(_, likely)| likely).sum();
            let mean = f64::from(count) * share;
            assert!((sum - 1.0).abs() < 1e-6, "{count} {share}: {sum}");
            assert!((loads.rows - mean).abs() < 1e-6 * (1.0 + mean), "{count} {share}: {loads:?}");
            let idle = (1.0 - share).powi(count as i32);
            assert!((loads.busy - (1.0 - idle)).abs() < 1e-6, "{count} {share}: {loads:?}");
            assert!((loads.tiles - loads.rows).abs() < 1e-9 * (1.0 + mean));
        }
    }

    #[test]
    fn a_row_fills_a_tile_for_itself() {
        let loads = Loads::of([(0.0, 0.5), (1.0, 0.25), (65.0, 0.25)], 64);
        assert_eq!((loads.rows, loads.busy, loads.tiles), (16.5, 0.5, 0.75));
    }
}
