//! The one source of chance of a run: a generator whose whole future is its seed.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and every seed gives a different stream.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds are far apart from the first draw on.
        let mut chance = Self(seed ^ 0x5851_F42D_4C95_7F2D);
        chance.next();
        chance
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.saturating_sub(low) + 1)
    }

    /// True in `share` of a thousand draws.
    pub fn once_in(&mut self, share: u64) -> bool {
        self.next() % 1_000 < share
    }

    /// A span whose logarithm is spread evenly: short ones are as frequent as long ones.
    pub fn span(&mut self, low: u64, high: u64) -> u64 {
        let mut top = high.max(low);
        let doublings = u64::from((top / low.max(1)).max(1).ilog2());
        top >>= self.within(0, doublings);
        self.within(low.min(top), top.max(low))
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        if choices.is_empty() {
            return None;
        }
        let at = self.next() % u64::try_from(choices.len()).unwrap_or(1);
        choices.get(usize::try_from(at).unwrap_or(0))
    }
}
