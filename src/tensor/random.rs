//! Numbers that look random, the same everywhere for the same seed.

/// SplitMix64 (Steele, Lea and Flood 2014): a stream of its own for each seed and name.
pub(crate) struct Random(u64);

impl Random {
    pub fn of(seed: u64, name: &str) -> Self {
        // FNV-1a
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        let name = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
        let mut random = Self(name ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number from 0 to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A whole number from `least` to `most`.
    pub fn whole(&mut self, least: i64, most: i64) -> f64 {
        least as f64 + self.below((most - least + 1) as u64) as f64
    }

    /// Even in 0..1.
    #[cfg(feature = "verify")]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The sum of four uniform numbers, scaled: mean 0, variance 1, within ±√12.
    pub fn normal(&mut self) -> f64 {
        let scale = 12f64.sqrt() / 4f64.sqrt() / 65_536.0;
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        (sum as f64 - 2.0 * 65_535.0) * scale
    }

    /// Whole numbers from `least` to `most`.
    pub fn counts(&mut self, count: usize, least: u32, most: u32) -> Vec<f64> {
        let span = u64::from(most.saturating_sub(least)) + 1;
        (0..count).map(|_| (u64::from(least) + self.below(span)) as f64).collect()
    }

    /// As [`Random::normal`].
    pub fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }
}
