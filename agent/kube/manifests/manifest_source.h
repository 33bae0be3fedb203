// SPDX-License-Identifier: Apache-2.0
// ManifestSource: a directory of manifests as a source of objects, in place of an API server.
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <string>

#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/base/table_writer.h"
#include "agent/kube/manifests/last_good.h"
#include "agent/kube/manifests/ledger.h"
#include "agent/kube/manifests/object.h"
#include "agent/kube/manifests/tree.h"
#include "agent/kube/manifests/watcher.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

struct ManifestConfig {
  std::string directory;
  // This node: what holds where no Node manifest is called like it; of a manifest, what that leaves out.
  model::Node node{};
  std::string state_directory;                     // kept copies go to its folder "manifests"
  bool static_pods = false;                        // only pods, as ManifestReader says; only `pods` is written
  Duration rescan = std::chrono::seconds(20);      // the safety net under inotify
  Duration retry = std::chrono::seconds(1);        // while the directory cannot be read
  Duration settle = std::chrono::milliseconds(5);  // events this close together are one scan
};

struct ManifestWriters {
  TableWriter<model::Service> services;
  TableWriter<model::EndpointSlice> endpoint_slices;
  TableWriter<model::Pod> pods;
  TableWriter<model::ConfigData> config_maps;
  TableWriter<model::ConfigData> secrets;
  TableWriter<model::Node> node;   // this one alone
  TableWriter<model::Node> nodes;  // all, this one among them
  TableWriter<model::Namespace> namespaces;
  TableWriter<model::NetworkPolicy> network_policies;
};

// Owner: Agent; thread: `loop`, which is an edge's own: files are read on it. Cost: a scan stats every file, and
// reads those that changed. Once the first scan is through, all writers are complete. An object that is bad keeps
// its last good version, over restarts too; one that leaves the directory is erased. Counts files, objects, kept and
// refused ones. Answers "manifests.status".
class ManifestSource {
 public:
  ManifestSource(Loop& loop, ManifestConfig config, ManifestWriters writers, metrics::Registry& registry,
                 Responder<Inspect, Json> inspect);

  // Takes up what an earlier run kept, and scans. On the loop's thread, or before it runs.
  void start();

 private:
  // What was written for an object.
  struct Written {
    ManifestKind kind;
    std::string row_key;
    std::string version;  // the object's text and its file
    bool has_row;
  };

  void schedule(Duration delay);
  void scan();
  Result<Tree> look();
  bool read_changed(const Tree& tree);
  void read_one(const std::string& path, const FileStamp& stamp);
  void publish();
  void write(const ManifestObject& object) const;
  void erase(const Written& written) const;
  void write_node(const model::Node& row) const;
  model::Node unsaid_node() const;
  void keep_copies();
  void warn_of_duplicates();
  Json status() const;

  Loop& loop_;
  ManifestConfig config_;
  ManifestWriters writers_;
  ManifestReader reader_;
  Responder<Inspect, Json> inspect_;
  LastGood last_good_;
  Watcher watcher_;
  Ledger ledger_;
  std::map<std::string, FileStamp> stamps_;                   // of the version that the ledger has, by path
  std::map<std::string, FileStamp> unclosed_;                 // files being written, as the last rescan saw them
  std::map<std::string, Written> written_;                    // by ManifestPlace::key()
  std::set<std::pair<std::string, std::string>> duplicates_;  // key and path that were warned of
  std::map<std::string, std::string> trouble_;                // where → why it cannot be looked at
  bool complete_ = false;
  bool rescanning_ = false;
  bool scheduled_ = false;
  Subscription timer_;
  Subscription rescan_;
  prometheus::Gauge& files_;
  prometheus::Gauge& objects_;
  prometheus::Gauge& kept_;
  prometheus::Gauge& refused_;
  prometheus::Counter& refusals_;
  prometheus::Counter& scans_;
};

}  // namespace fairlead::kube
