//! RocksDB: opened and tuned here, and nowhere else.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, DBWithThreadMode, FlushOptions, LogLevel, Options, SingleThreaded,
    SliceTransform, WriteBufferManager,
};

use crate::{Profile, StoreError, StoreOptions};

pub(crate) type Rocks = DBWithThreadMode<SingleThreaded>;

/// An open database, and what it shares between its families.
pub(crate) struct Database {
    pub(crate) rocks: Rocks,
    pub(crate) cache: Cache,
    pub(crate) buffers: WriteBufferManager,
}

/// How a database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every byte of the write-ahead log has to be good, to its end.
    Strict,
    /// The log ends at the first record that is not whole. Only after `wal` has shown that
    /// nothing synced lies behind it.
    CutTail,
    /// Nothing is written. For reading on while the disk is full.
    ReadOnly,
}

impl Database {
    /// Opens the database in `dir`; makes it if there is none.
    pub(crate) fn open(
        dir: &Path,
        opts: &StoreOptions,
        mode: Mode,
    ) -> Result<Self, rocksdb::Error> {
        let memory = opts.memory();
        let cache = Cache::new_lru_cache(usize_of(memory.block_cache_bytes));
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            usize_of(memory.write_buffer_bytes),
            false,
            cache.clone(),
        );
        let mut whole = database_options(opts, mode);
        whole.set_write_buffer_manager(&buffers);
        let families = Profile::ALL.map(|profile| {
            ColumnFamilyDescriptor::new(profile.family(), family_options(profile, opts, &cache))
        });
        let rocks = match mode {
            Mode::ReadOnly => Rocks::open_cf_descriptors_read_only(&whole, dir, families, false)?,
            Mode::Strict | Mode::CutTail => Rocks::open_cf_descriptors(&whole, dir, families)?,
        };
        Ok(Self {
            rocks,
            cache,
            buffers,
        })
    }

    /// Writes all rows that are only in memory and in the log to table files.
    pub(crate) fn flush_all(&self) -> Result<(), StoreError> {
        let mut families = Vec::new();
        for profile in Profile::ALL {
            families.push(self.family(profile)?);
        }
        self.rocks
            .flush_cfs_opt(&families, &FlushOptions::default())
            .map_err(|error| StoreError::io("flushing", error))
    }

    /// The family of a profile.
    pub(crate) fn family(&self, profile: Profile) -> Result<&ColumnFamily, StoreError> {
        self.rocks
            .cf_handle(profile.family())
            .ok_or_else(|| StoreError::io("finding a column family", profile.family()))
    }
}

fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn database_options(opts: &StoreOptions, mode: Mode) -> Options {
    let memory = opts.memory();
    let mut o = Options::default();
    o.create_if_missing(true);
    o.create_missing_column_families(true);
    o.set_paranoid_checks(true);
    o.set_wal_recovery_mode(match mode {
        Mode::Strict => DBRecoveryMode::AbsoluteConsistency,
        Mode::CutTail | Mode::ReadOnly => DBRecoveryMode::PointInTime,
    });
    // A log that was synced and closed must be there in full at the next opening.
    o.set_track_and_verify_wals_in_manifest(true);
    // A commit only fills a buffer; the syncer writes it out, once for all commits since.
    o.set_manual_wal_flush(true);
    // A bound on what is replayed after a crash: a second's work on a small machine.
    o.set_max_total_wal_size(memory.write_buffer_bytes * 2);
    // One flush and one compaction at a time, and not faster than an SD card can bear: a
    // message's way to the disk is the log, and that must not wait behind a compaction.
    o.set_max_background_jobs(2);
    o.set_max_subcompactions(1);
    o.set_auto_tuned_ratelimiter(64 << 20, 100_000, 10);
    o.set_bytes_per_sync(1 << 20);
    o.set_max_open_files(512);
    o.set_max_file_opening_threads(2);
    o.set_skip_stats_update_on_db_open(true);
    o.set_max_manifest_file_size(4 << 20);
    o.set_log_level(LogLevel::Warn);
    o.set_keep_log_file_num(2);
    o.set_max_log_file_size(1 << 20);
    // Nothing wakes up when nothing happens.
    o.set_stats_dump_period_sec(0);
    o.set_stats_persist_period_sec(0);
    o
}

/// Bytes of a key that select a prefix: two of the table, eight of the first number.
const PREFIX: usize = 10;

fn family_options(profile: Profile, opts: &StoreOptions, cache: &Cache) -> Options {
    let memory = opts.memory();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(6);
    table.set_optimize_filters_for_memory(true);
    let mut o = Options::default();
    o.set_write_buffer_size(usize_of(memory.write_buffer_bytes / 2).max(1 << 20));
    o.set_max_write_buffer_number(3);
    o.set_level_compaction_dynamic_level_bytes(true);
    o.set_target_file_size_base(16 << 20);
    o.set_max_bytes_for_level_base(64 << 20);
    o.set_compression_type(DBCompressionType::Lz4);
    o.set_bottommost_compression_type(DBCompressionType::Zstd);
    match profile {
        Profile::Scan => {
            table.set_block_size(8 << 10);
            table.set_bloom_filter(10.0, false);
            table.set_whole_key_filtering(true);
            o.set_prefix_extractor(SliceTransform::create_fixed_prefix(PREFIX));
            o.set_memtable_prefix_bloom_ratio(0.05);
        }
        Profile::Point => {
            table.set_block_size(4 << 10);
            table.set_bloom_filter(10.0, false);
            o.set_memtable_whole_key_filtering(true);
            o.set_memtable_prefix_bloom_ratio(0.05);
        }
        Profile::Event => {
            // Neighbours in time compress well together; but in a busy house they are of other
            // rooms, and a page of one room then reads a block for nearly every event.
            table.set_block_size(8 << 10);
            table.set_bloom_filter(10.0, false);
        }
        Profile::Small => {
            table.set_block_size(4 << 10);
            o.set_write_buffer_size(1 << 20);
        }
    }
    o.set_block_based_table_factory(&table);
    o
}
