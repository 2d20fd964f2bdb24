//! Reports: how large the tables are, and how the memory is used.

use rocksdb::Range;

use crate::snapshot::successor;
use crate::{MemoryPlan, Store, StoreError, TableInfo, schema};

/// Size of a table.
#[derive(Debug, Clone, Copy)]
pub struct TableStats {
    /// Which table.
    pub table: &'static TableInfo,
    /// About how many bytes it takes in table files, compressed.
    pub disk_bytes: u64,
}

/// Sizes of the store.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Every table, in the order of the schema.
    pub tables: Vec<TableStats>,
    /// How the memory was divided.
    pub plan: MemoryPlan,
    /// Bytes in the block cache, write buffers included.
    pub cache_bytes: u64,
    /// Bytes in write buffers.
    pub write_buffer_bytes: u64,
    /// Bytes in write-ahead log files.
    pub log_bytes: u64,
}

impl Store {
    /// Sizes per table and the use of memory. Costs some file look-ups; not for every request.
    ///
    /// # Errors
    /// Reading the directory failed.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let db = self.newest().database().clone();
        let mut tables = Vec::new();
        for table in schema::all() {
            let family = db.family(table.profile)?;
            let end = successor(table.id.to_vec()).unwrap_or_else(|| vec![0xff; 3]);
            let range = Range::new(&table.id, &end);
            let sizes = db.rocks.get_approximate_sizes_cf(family, &[range]);
            let disk_bytes = sizes.into_iter().sum();
            tables.push(TableStats { table, disk_bytes });
        }
        let mut log_bytes = 0;
        let files = crate::wal::files(self.dir());
        for (_, path) in files.map_err(|e| StoreError::io("listing log files", e))? {
            // A file may be gone by now.
            log_bytes += std::fs::metadata(path).map_or(0, |meta| meta.len());
        }
        Ok(Stats {
            tables,
            plan: self.shared.opts.memory(),
            cache_bytes: db.cache.get_usage() as u64,
            write_buffer_bytes: db.buffers.get_usage() as u64,
            log_bytes,
        })
    }
}
