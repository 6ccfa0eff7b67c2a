//! Memory of this process, as its allocator counts it.

use tikv_jemalloc_ctl::{Error, epoch, stats};

/// What this process has of the system's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Asked for and not given back, bytes.
    pub allocated: u64,
    /// Held of the system for that, bytes.
    pub resident: u64,
}

/// What it is now.
///
/// # Errors
/// When the allocator was built without statistics.
pub fn read() -> Result<Memory, Error> {
    epoch::advance()?;
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Ok(Memory {
        allocated: bytes(stats::allocated::read()?),
        resident: bytes(stats::resident::read()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_counted() {
        let before = read().expect("the allocator counts");
        let block = std::hint::black_box(vec![1_u8; 8 << 20]);
        let after = read().expect("the allocator counts");
        assert!(before.allocated > 0 && before.resident > 0);
        assert!(after.resident >= after.allocated);
        drop(block);
    }
}
