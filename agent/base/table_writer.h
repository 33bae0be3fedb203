// SPDX-License-Identifier: Apache-2.0
// TableWriter: the only way to change a state table. An edge takes one and never sees the table itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace fairlead {

// A table's count of changes; grows by one with each. 0 is before the first.
using Revision = std::uint64_t;

// What a table offers to writers. Implemented by agent/state.
template <class Row>
class TableSink {
 public:
  virtual ~TableSink() = default;
  virtual Revision upsert(const std::string& source, std::string key, std::shared_ptr<const Row> row) = 0;
  virtual Revision erase(const std::string& source, const std::string& key) = 0;
  virtual void replace(const std::string& source,
                       std::vector<std::pair<std::string, std::shared_ptr<const Row>>> all) = 0;
  virtual void set_complete(const std::string& source) = 0;
};

// The writing end of a table for one source ("api", "manifests", "local", …). A key belongs to the source that wrote it
// last; erase() of another source's key does nothing. Copyable; any thread.
template <class Row>
class TableWriter {
 public:
  TableWriter() = default;
  TableWriter(std::shared_ptr<TableSink<Row>> sink, std::string source)
      : sink_(std::move(sink)), source_(std::move(source)) {}

  // Writes a row; returns the table's revision with it in.
  Revision upsert(std::string key, Row row) const {
    return sink_->upsert(source_, std::move(key), std::make_shared<const Row>(std::move(row)));
  }
  Revision upsert(std::string key, std::shared_ptr<const Row> row) const {
    return sink_->upsert(source_, std::move(key), std::move(row));
  }
  Revision erase(const std::string& key) const { return sink_->erase(source_, key); }

  // The whole list of this source: rows that are missing from it are erased. Marks the source complete.
  void replace(std::vector<std::pair<std::string, std::shared_ptr<const Row>>> all) const {
    sink_->replace(source_, std::move(all));
  }
  // This source has said all that it knew at its start; only now may consumers delete what nobody named.
  void set_complete() const { sink_->set_complete(source_); }

 private:
  std::shared_ptr<TableSink<Row>> sink_;
  std::string source_;
};

}  // namespace fairlead
