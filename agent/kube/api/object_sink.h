// SPDX-License-Identifier: Apache-2.0
// Where a reflector's objects go: ObjectSink for any kind, TableObjectSink for a whole kind in a state table.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/table_writer.h"
#include "agent/kube/api/wire.h"

namespace fairlead::kube {

// Between begin_list() and end_list() the objects are a list in the making (a broken one begins again); after it, put()
// and remove() are changes. Bytes are valid during the call. Thread: the reflector's.
class ObjectSink {
 public:
  virtual ~ObjectSink() = default;
  virtual void begin_list() = 0;
  virtual void end_list() = 0;  // whole: what was not put is gone
  // An error: this object is not fit for use; what was known of it stays.
  virtual Result<> put(const ObjectHead& head, std::string_view object) = 0;
  virtual void remove(const ObjectHead& head) = 0;
};

// How rows of a kind are keyed: by "namespace/name", or the name alone of what is in no namespace; or by uid.
inline std::string key_by_name(const ObjectHead& head) {
  return head.ns.empty() ? head.name : head.ns + "/" + head.name;
}
inline std::string key_by_uid(const ObjectHead& head) {
  return head.uid;
}

// Decodes with `decode` (bytes → key and row) and writes through `writer`. Keeps a pointer to each row with its
// resourceVersion: an object that a new list brings unchanged is neither decoded again nor a change to anybody, and one
// that does not decode any more keeps its last good row.
template <class Row>
class TableObjectSink final : public ObjectSink {
 public:
  using Decode = std::function<Result<std::pair<std::string, Row>>(std::string_view)>;
  using KeyOf = std::string (*)(const ObjectHead&);
  TableObjectSink(TableWriter<Row> writer, KeyOf key_of, Decode decode)
      : writer_(std::move(writer)), key_of_(key_of), decode_(std::move(decode)) {}

  void begin_list() override { listed_.emplace(); }

  void end_list() override {
    known_ = *std::exchange(listed_, std::nullopt);
    std::vector<std::pair<std::string, std::shared_ptr<const Row>>> rows;
    rows.reserve(known_.size());
    for (const auto& [key, known] : known_) rows.emplace_back(key, known.row);
    writer_.replace(std::move(rows));
  }

  Result<> put(const ObjectHead& head, std::string_view object) override {
    const std::string key = key_of_(head);
    const auto before = known_.find(key);
    if (listed_ && before != known_.end() && before->second.version == head.resource_version) {
      (*listed_)[key] = before->second;
      return {};
    }
    auto keyed = decode_(object);
    if (!keyed) {
      if (listed_ && before != known_.end()) (*listed_)[key] = before->second;
      return std::unexpected(std::move(keyed).error());
    }
    Known known{head.resource_version, std::make_shared<const Row>(std::move(keyed->second))};
    if (!listed_) writer_.upsert(key, known.row);
    (listed_ ? *listed_ : known_)[key] = std::move(known);
    return {};
  }

  void remove(const ObjectHead& head) override {
    const std::string key = key_of_(head);
    (listed_ ? *listed_ : known_).erase(key);
    if (!listed_) writer_.erase(key);
  }

 private:
  struct Known {
    std::string version;
    std::shared_ptr<const Row> row;
  };
  using Rows = std::map<std::string, Known>;

  TableWriter<Row> writer_;
  KeyOf key_of_;
  Decode decode_;
  Rows known_;                  // as the table has it from us
  std::optional<Rows> listed_;  // while a list is read
};

}  // namespace fairlead::kube
