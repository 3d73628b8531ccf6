// What most of RocksDB's files include: `c++` beside this file precompiles it.
#include "db/db_impl/db_impl.h"
#include "db/write_batch_internal.h"
#include "logging/logging.h"
#include "monitoring/statistics_impl.h"
#include "options/options_helper.h"
#include "rocksdb/convenience.h"
#include "rocksdb/utilities/object_registry.h"
#include "rocksdb/utilities/options_type.h"
#include "table/block_based/block_based_table_reader.h"
#include "test_util/sync_point.h"
#include "util/coding.h"
#include "util/string_util.h"
#include <iostream>
#include <sstream>
