//! What the store is opened with.

use std::sync::Arc;

use crate::disk::{Disk, RealDisk};

/// Whether an acknowledged change is on the disk or with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every acknowledged change has been through fsync: it survives a power cut.
    Fsync,
    /// The kernel has it: it survives a crash of this program, not of the machine.
    Os,
}

/// How the store is opened. Start from [`StoreOptions::default`].
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory of the whole process, in bytes. The store takes a part: see [`MemoryPlan`].
    pub memory_budget_bytes: u64,
    /// When a change counts as done.
    pub durability: Durability,
    /// Writes are refused while the disk has fewer bytes free than this; 0 turns it off.
    pub free_disk_floor_bytes: u64,
    /// Write everything to table files when closing, so that the next start replays nothing.
    pub flush_on_close: bool,
    /// Access to the disk; replaced in tests to make it full or failing.
    pub disk: Arc<dyn Disk>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 512 << 20,
            durability: Durability::Fsync,
            free_disk_floor_bytes: 256 << 20,
            flush_on_close: true,
            disk: Arc::new(RealDisk),
        }
    }
}

impl StoreOptions {
    /// Small buffers, nothing left to do at the end, no floor: opens in some milliseconds.
    #[must_use]
    pub fn for_tests() -> Self {
        Self {
            memory_budget_bytes: 64 << 20,
            durability: Durability::Os,
            free_disk_floor_bytes: 0,
            flush_on_close: false,
            ..Self::default()
        }
    }

    /// How the store divides its share of the budget.
    #[must_use]
    pub fn memory(&self) -> MemoryPlan {
        let budget = self.memory_budget_bytes.max(32 << 20);
        MemoryPlan {
            block_cache_bytes: budget / 4,
            write_buffer_bytes: (budget / 12).clamp(4 << 20, 64 << 20),
            names_bytes: budget / 32,
        }
    }
}

/// How the store divides its share of the memory budget; all sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Blocks of table files, their indexes and filters, and the write buffers.
    pub block_cache_bytes: u64,
    /// Rows not yet in table files; counted within the block cache.
    pub write_buffer_bytes: u64,
    /// Names and numbers of users, rooms, servers, state keys and events.
    pub names_bytes: u64,
}
