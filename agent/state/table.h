// SPDX-License-Identifier: Apache-2.0
// Table: typed desired state with change streams; where domains meet, and nowhere else.
//
// Rows are immutable and shared, so nobody copies a table. Each reader has its own coalescing change record: before is
// the row as that reader last saw it, after is the row now, so delete + create between two wake-ups is one change whose
// `before` and `after` differ in uid, and a delete is seen by every reader. One lock a table, held for map operations.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/table_writer.h"

namespace fairlead::state {

// One key's change since the reader last looked. before == nullptr: new. after == nullptr: gone.
template <class Row>
struct Change {
  std::string key;
  std::shared_ptr<const Row> before;
  std::shared_ptr<const Row> after;
  Revision revision = 0;  // of the latest write that is in it
};

// A wake-up's worth of changes.
template <class Row>
struct Delta {
  std::vector<Change<Row>> changes;  // by key
  Revision revision = 0;             // the table's, with all these changes in
  bool complete = false;             // every source has delivered its first whole list
};

template <class Row>
class Table;

// A consumer's end: one owner, one loop.
template <class Row>
class TableReader {
 public:
  TableReader() = default;
  TableReader(TableReader&&) noexcept = default;
  TableReader& operator=(TableReader&& other) noexcept {
    detach();
    core_ = std::move(other.core_);
    id_ = other.id_;
    return *this;
  }
  ~TableReader() { detach(); }

  // Calls `consume` on `loop` with the changes since the last call; the first call brings every row there is. It is
  // also called, with no changes, when the table becomes complete.
  void attach(Loop& loop, std::function<void(Delta<Row>)> consume) {
    const std::lock_guard lock(core_->mutex);
    auto& slot = core_->readers.at(id_);
    slot.loop = &loop;
    slot.consume = std::make_shared<std::function<void(Delta<Row>)>>(std::move(consume));
    slot.wake = true;
    Table<Row>::schedule(core_, id_);
  }

  // The changes since the last take(); for tests.
  Delta<Row> take() { return Table<Row>::take(core_, id_); }

 private:
  friend class Table<Row>;
  TableReader(std::shared_ptr<typename Table<Row>::Core> core, std::uint64_t id) : core_(std::move(core)), id_(id) {}
  void detach() {
    if (!core_) return;
    const std::lock_guard lock(core_->mutex);
    core_->readers.erase(id_);
    core_.reset();
  }

  std::shared_ptr<typename Table<Row>::Core> core_;
  std::uint64_t id_ = 0;
};

// Owner: Agent. Cost: a write is O(log keys + readers).
template <class Row>
class Table {
 public:
  // `sources` must each report complete before the table is.
  explicit Table(std::vector<std::string> sources) : core_(std::make_shared<Core>()) {
    core_->awaited.insert(sources.begin(), sources.end());
  }

  TableWriter<Row> writer(std::string source) const { return TableWriter<Row>(core_, std::move(source)); }

  TableReader<Row> reader() const {
    const std::lock_guard lock(core_->mutex);
    const std::uint64_t id = core_->next_reader++;
    auto& slot = core_->readers[id];
    for (const auto& [key, cell] : core_->rows) slot.seen_before.emplace(key, nullptr);
    return TableReader<Row>(core_, id);
  }

  // The row now, or nullptr. Any thread.
  std::shared_ptr<const Row> get(const std::string& key) const {
    const std::lock_guard lock(core_->mutex);
    const auto at = core_->rows.find(key);
    return at == core_->rows.end() ? nullptr : at->second.row;
  }

  // Sources whose first list has not arrived; empty means complete. Any thread.
  std::vector<std::string> missing() const {
    const std::lock_guard lock(core_->mutex);
    return {core_->awaited.begin(), core_->awaited.end()};
  }

  std::size_t size() const {
    const std::lock_guard lock(core_->mutex);
    return core_->rows.size();
  }

 private:
  friend class TableReader<Row>;

  struct Cell {
    std::string source;
    std::shared_ptr<const Row> row;
    Revision revision = 0;
  };
  struct Slot {
    // Keys that changed since the reader looked → the row as it saw it (nullptr: it had none).
    std::map<std::string, std::shared_ptr<const Row>> seen_before;
    Loop* loop = nullptr;
    std::shared_ptr<std::function<void(Delta<Row>)>> consume;
    bool scheduled = false;
    bool wake = false;  // call the consumer even without changes
  };

  struct Core final : TableSink<Row>, std::enable_shared_from_this<Core> {
    mutable std::mutex mutex;
    std::unordered_map<std::string, Cell> rows;
    std::map<std::uint64_t, Slot> readers;
    std::set<std::string> awaited;
    Revision revision = 0;
    std::uint64_t next_reader = 1;

    Revision upsert(const std::string& source, std::string key, std::shared_ptr<const Row> row) override {
      const std::lock_guard lock(mutex);
      put(source, std::move(key), std::move(row));
      return revision;
    }

    Revision erase(const std::string& source, const std::string& key) override {
      const std::lock_guard lock(mutex);
      remove(source, key);
      return revision;
    }

    void replace(const std::string& source,
                 std::vector<std::pair<std::string, std::shared_ptr<const Row>>> all) override {
      const std::lock_guard lock(mutex);
      std::set<std::string> named;
      for (auto& [key, row] : all) {
        named.insert(key);
        put(source, key, std::move(row));
      }
      std::vector<std::string> gone;
      for (const auto& [key, cell] : rows) {
        if (cell.source == source && !named.contains(key)) gone.push_back(key);
      }
      for (const std::string& key : gone) remove(source, key);
      complete(source);
    }

    void set_complete(const std::string& source) override {
      const std::lock_guard lock(mutex);
      complete(source);
    }

    // All below: mutex held.
    void put(const std::string& source, std::string key, std::shared_ptr<const Row> row) {
      Cell& cell = rows[key];
      note(key, cell.row);
      cell = Cell{source, std::move(row), ++revision};
      wake_all();
    }
    void remove(const std::string& source, const std::string& key) {
      const auto at = rows.find(key);
      if (at == rows.end() || at->second.source != source) return;
      note(key, at->second.row);
      rows.erase(at);
      ++revision;
      wake_all();
    }
    void complete(const std::string& source) {
      if (awaited.erase(source) == 0 || !awaited.empty()) return;
      for (auto& [id, slot] : readers) slot.wake = true;
      wake_all();
    }
    void note(const std::string& key, const std::shared_ptr<const Row>& before) {
      for (auto& [id, slot] : readers) slot.seen_before.try_emplace(key, before);
    }
    void wake_all() {
      for (auto& [id, slot] : readers) schedule(this->shared_from_this(), id);
    }
  };

  // Mutex held.
  static void schedule(const std::shared_ptr<Core>& core, std::uint64_t id) {
    Slot& slot = core->readers.at(id);
    if (slot.scheduled || slot.loop == nullptr || (slot.seen_before.empty() && !slot.wake)) return;
    slot.scheduled = true;
    slot.loop->post([core, id] { drain(core, id); });
  }

  static Delta<Row> take(const std::shared_ptr<Core>& core, std::uint64_t id) {
    const std::lock_guard lock(core->mutex);
    return take_locked(*core, core->readers.at(id));
  }

  static Delta<Row> take_locked(Core& core, Slot& slot) {
    Delta<Row> delta;
    delta.revision = core.revision;
    delta.complete = core.awaited.empty();
    slot.scheduled = false;
    slot.wake = false;
    for (auto& [key, before] : std::exchange(slot.seen_before, {})) {
      const auto at = core.rows.find(key);
      Change<Row> change{key, std::move(before), nullptr, core.revision};
      if (at != core.rows.end()) {
        change.after = at->second.row;
        change.revision = at->second.revision;
      }
      if (change.before != change.after) delta.changes.push_back(std::move(change));
    }
    return delta;
  }

  static void drain(const std::shared_ptr<Core>& core, std::uint64_t id) {
    Delta<Row> delta;
    std::shared_ptr<std::function<void(Delta<Row>)>> consume;
    {
      const std::lock_guard lock(core->mutex);
      const auto at = core->readers.find(id);
      if (at == core->readers.end()) return;
      delta = take_locked(*core, at->second);
      consume = at->second.consume;
    }
    (*consume)(std::move(delta));
  }

  std::shared_ptr<Core> core_;
};

}  // namespace fairlead::state
