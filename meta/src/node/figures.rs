//! Figures that are looked up when they are asked for, and not counted as they change: queues, how far the
//! log is, RocksDB's own.

use crate::store::Figures;

use super::Node;

fn set(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}

fn set_of(db: &'static str, figures: &Figures) {
    let set = |name: &'static str, value: u64| metrics::gauge!(name, "db" => db).set(value as f64);
    set("cairn_meta_rocksdb_memtable_bytes", figures.memtable_bytes);
    set("cairn_meta_rocksdb_block_cache_bytes", figures.block_cache_bytes);
    set("cairn_meta_rocksdb_table_bytes", figures.table_bytes);
    set("cairn_meta_rocksdb_compaction_pending_bytes", figures.compaction_pending_bytes);
    set("cairn_meta_rocksdb_compactions_running_count", figures.compactions);
    set("cairn_meta_rocksdb_flushes_running_count", figures.flushes);
    set("cairn_meta_rocksdb_level_zero_files_count", figures.level0_files);
    set("cairn_meta_rocksdb_keys_count", figures.keys);
    set("cairn_meta_rocksdb_background_errors_count", figures.background_errors);
    set("cairn_meta_rocksdb_write_stopped", u64::from(figures.write_stopped));
}

impl Node {
    /// Brings the gauges up to date that nobody keeps.
    pub fn sample_metrics(&self) {
        let shared = &self.shared;
        shared.admission.clients.sample();
        shared.admission.cluster.sample();
        shared.reader.sample();
        set("cairn_meta_raft_fsync_waiting_count", shared.flushes.waiting());
        let status = self.status();
        set("cairn_meta_raft_last_log_index", status.last_log.0);
        set("cairn_meta_raft_applied_index", status.applied.0);
        set("cairn_meta_raft_snapshot_index", status.snapshot.0);
        set("cairn_meta_feature_level", u64::from(status.level.0));
        if let Some(state) = shared.view.current.get() {
            set_of("state", &state.store().figures());
        }
        // None once the node is stopped: nothing here keeps the log's files open.
        if let Some(log) = shared.log.upgrade() {
            set_of("log", &log.figures());
        }
    }
}
