// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/manifest_source.h"

#include <utility>

#include "agent/base/log.h"

namespace fairlead::kube {
namespace {

constexpr std::string_view kModule = "manifests";
constexpr std::size_t kFileBytes = 16U << 20;

Json place_json(const std::string& path, const ManifestPlace& place) {
  Json json{{"file", path}, {"kind", place.kind}, {"namespace", place.ns}, {"name", place.name}};
  if (place.document != 0) json["document"] = place.document;
  if (place.item) json["item"] = *place.item;
  if (place.line != 0) json["line"] = place.line;
  return json;
}

}  // namespace

ManifestSource::ManifestSource(Loop& loop, ManifestConfig config, ManifestWriters writers, metrics::Registry& registry,
                               Responder<Inspect, Json> inspect)
    : loop_(loop),
      config_(std::move(config)),
      writers_(std::move(writers)),
      reader_{config_.node.name, config_.static_pods},
      inspect_(std::move(inspect)),
      last_good_(config_.state_directory + "/manifests", config_.directory),
      watcher_(loop, [this] { schedule(config_.settle); }),
      files_(metrics::gauge(registry, "fairlead_manifest_files", "Manifest files in the directory.")),
      objects_(metrics::gauge(registry, "fairlead_manifest_objects", "Objects from manifests that are in force.")),
      kept_(metrics::gauge(registry, "fairlead_manifest_kept_objects",
                           "Objects whose last good version is in force, because the manifest is bad now.")),
      refused_(metrics::gauge(registry, "fairlead_manifest_refused_objects", "Objects in manifests that are refused.")),
      refusals_(metrics::counter(registry, "fairlead_manifest_refusals_total", "Objects refused, each time read.")),
      scans_(metrics::counter(registry, "fairlead_manifest_scans_total", "Scans of the manifest directory.")) {
  inspect_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) {
    if (request.op != "manifests.status") return reply(fail(Code::kNotFound, "unknown operation {}", request.op));
    reply(status());
  });
}

void ManifestSource::start() {
  for (auto& [path, objects] : last_good_.load(reader_)) ledger_.restore(path, std::move(objects));
  rescan_ = loop_.every(config_.rescan, [this] {
    rescanning_ = true;
    scan();
    rescanning_ = false;
  });
  scan();
}

void ManifestSource::schedule(Duration delay) {
  if (std::exchange(scheduled_, true)) return;
  timer_ = loop_.after(delay, [this] { scan(); });
}

// The directory's files, with every directory watched before its files were looked at.
Result<Tree> ManifestSource::look() {
  constexpr int kRounds = 3;  // directories that come and go faster than this are left to their own events
  for (int round = 1;; ++round) {
    FL_LET(Tree tree, scan_tree(config_.directory));
    std::vector<std::string> watched;
    for (const std::string& path : tree.directories) {
      watched.push_back(path.empty() ? config_.directory : config_.directory + "/" + path);
    }
    const auto fresh = watcher_.follow(watched);
    if (!fresh) tree.unreadable.emplace("(inotify)", fresh.error());
    if (!fresh || !*fresh || round == kRounds) return tree;
  }
}

void ManifestSource::scan() {
  timer_.cancel();
  scheduled_ = false;
  scans_.Increment();
  const auto tree = look();
  std::map<std::string, std::string> trouble;
  if (!tree) {
    trouble.emplace(config_.directory, tree.error().message());
  } else {
    for (const auto& [path, error] : tree->unreadable) trouble.emplace(path, error.message());
  }
  for (const auto& [where, why] : trouble) {
    if (!trouble_.contains(where)) log::warn(kModule, "cannot look at manifests", {{"where", where}, {"reason", why}});
  }
  trouble_ = std::move(trouble);
  if (!tree) return schedule(config_.retry);  // nothing is known to be gone

  if (read_changed(*tree) || !complete_) {
    ledger_.settle();
    warn_of_duplicates();
    publish();
  }
  if (!std::exchange(complete_, true)) {
    if (!config_.static_pods) {
      writers_.config_maps.set_complete();
      writers_.secrets.set_complete();
      writers_.services.set_complete();
      writers_.endpoint_slices.set_complete();
      if (!written_.contains("Node//" + config_.node.name)) write_node(unsaid_node());
      writers_.node.set_complete();
      writers_.nodes.set_complete();
      writers_.namespaces.set_complete();
      writers_.network_policies.set_complete();
    }
    writers_.pods.set_complete();
    log::info(kModule, "manifests are read", {{"directory", config_.directory}, {"objects", written_.size()}});
  }
  keep_copies();
}

// Brings the ledger up to the directory; false: nothing changed.
bool ManifestSource::read_changed(const Tree& tree) {
  bool changed = false;
  std::map<std::string, FileStamp> unclosed;
  for (const auto& [path, stamp] : tree.files) {
    const auto known = stamps_.find(path);
    if (known != stamps_.end() && known->second == stamp) continue;
    const std::string full = config_.directory + "/" + path;
    if (watcher_.being_written().contains(full)) {
      const auto before = unclosed_.find(path);
      if (!rescanning_ || before == unclosed_.end() || before->second != stamp) {
        unclosed.emplace(path, stamp);
        continue;
      }
      watcher_.settle(full);  // untouched for a whole period: its writer just never closes it
    }
    read_one(path, stamp);
    changed = true;
  }
  if (rescanning_) unclosed_ = std::move(unclosed);
  std::vector<std::string> gone;
  for (const auto& [path, file] : ledger_.files()) {
    if (!tree.files.contains(path) && !tree.hides(path)) gone.push_back(path);
  }
  for (const std::string& path : gone) {
    ledger_.remove(path);
    stamps_.erase(path);
    changed = true;
  }
  files_.Set(static_cast<double>(tree.files.size()));
  return changed;
}

void ManifestSource::read_one(const std::string& path, const FileStamp& stamp) {
  const std::string full = config_.directory + "/" + path;
  auto file = read_manifest(full, kFileBytes);
  if (!file && file.error().code == Code::kNotFound) {  // removed since the scan
    ledger_.remove(path);
    stamps_.erase(path);
    return;
  }
  ManifestContent content;
  if (file) {
    content = reader_.read(file->text, full);
  } else {
    content.whole = false;
    content.refusals.push_back({{}, {{"", file.error().message()}}});
  }
  for (const ManifestRefusal& refusal : content.refusals) {
    refusals_.Increment();
    for (const FieldError& error : refusal.errors) {
      log::warn(kModule, "object refused",
                {{"file", path},
                 {"document", refusal.place.document},
                 {"line", error.line},
                 {"object", refusal.place.key()},
                 {"field", error.field},
                 {"reason", error.reason}});
    }
  }
  for (const ManifestObject& object : content.objects) {
    for (const std::string& field : object.reported) {
      log::info(kModule, "field has no effect", {{"file", path}, {"object", object.place.key()}, {"field", field}});
    }
  }
  ledger_.update(path, std::move(content));
  // A file that could not be read is tried again at each scan.
  if (file) {
    stamps_[path] = file->stamp;
  } else {
    stamps_.erase(path);
    if (file.error().code == Code::kExhausted) stamps_[path] = stamp;
  }
}

void ManifestSource::warn_of_duplicates() {
  std::set<std::pair<std::string, std::string>> now;
  for (const Ledger::Duplicate& each : ledger_.duplicates()) {
    const std::string key = each.object->place.key();
    now.emplace(key, *each.path);
    if (duplicates_.contains({key, *each.path})) continue;
    refusals_.Increment();
    log::warn(kModule, "object refused",
              {{"file", *each.path},
               {"document", each.object->place.document},
               {"object", key},
               {"reason", "already defined in " + each.owner}});
  }
  duplicates_ = std::move(now);
}

// Writes the difference between what is in force and what the tables have. Erases first: a changed pod is another uid.
void ManifestSource::publish() {
  std::map<std::string, Written> next;
  for (const auto& [key, entry] : ledger_.in_force()) {
    const ManifestObject& object = *entry.object;
    next.emplace(key, Written{object.kind, object.row_key, *entry.path + "\n" + object.source,
                              !std::holds_alternative<std::monostate>(object.row)});
  }
  for (const auto& [key, old] : written_) {
    const auto at = next.find(key);
    if (old.has_row && (at == next.end() || at->second.row_key != old.row_key || !at->second.has_row)) erase(old);
  }
  // Pods come last in the order of writing, so that what they mount and who isolates them is there before them.
  for (const bool pods : {false, true}) {
    for (const auto& [key, entry] : ledger_.in_force()) {
      if ((entry.object->kind == ManifestKind::kPod) != pods) continue;
      const auto before = written_.find(key);
      if (before == written_.end() || before->second.version != next.at(key).version) write(*entry.object);
    }
  }
  written_ = std::move(next);

  std::size_t kept = 0;
  std::size_t refused = ledger_.duplicates().size();
  for (const auto& [path, file] : ledger_.files()) {
    refused += file.refusals.size();
    for (const ManifestObject& object : file.objects) kept += object.kept ? 1 : 0;
  }
  objects_.Set(static_cast<double>(written_.size()));
  kept_.Set(static_cast<double>(kept));
  refused_.Set(static_cast<double>(refused));
}

void ManifestSource::write(const ManifestObject& object) const {
  if (const auto* pod = std::get_if<model::Pod>(&object.row)) writers_.pods.upsert(object.row_key, *pod);
  if (const auto* service = std::get_if<model::Service>(&object.row))
    writers_.services.upsert(object.row_key, *service);
  if (const auto* slice = std::get_if<model::EndpointSlice>(&object.row)) {
    writers_.endpoint_slices.upsert(object.row_key, *slice);
  }
  if (const auto* data = std::get_if<model::ConfigData>(&object.row)) {
    (object.kind == ManifestKind::kSecret ? writers_.secrets : writers_.config_maps).upsert(object.row_key, *data);
  }
  if (const auto* node = std::get_if<model::Node>(&object.row)) write_node(*node);
  if (const auto* name_space = std::get_if<model::Namespace>(&object.row)) {
    writers_.namespaces.upsert(object.row_key, *name_space);
  }
  if (const auto* policy = std::get_if<model::NetworkPolicy>(&object.row)) {
    writers_.network_policies.upsert(object.row_key, *policy);
  }
}

// This node, of which no manifest says anything.
model::Node ManifestSource::unsaid_node() const {
  model::Node row;
  row.name = config_.node.name;
  return row;
}

void ManifestSource::write_node(const model::Node& row) const {
  if (row.name != config_.node.name) {
    writers_.nodes.upsert(row.name, row);
    return;
  }
  model::Node own = row;
  own.labels.insert(config_.node.labels.begin(), config_.node.labels.end());
  if (own.pod_cidrs.empty()) own.pod_cidrs = config_.node.pod_cidrs;
  if (own.addresses.empty()) own.addresses = config_.node.addresses;
  writers_.node.upsert(own.name, own);
  writers_.nodes.upsert(own.name, own);
}

void ManifestSource::erase(const Written& written) const {
  switch (written.kind) {
    case ManifestKind::kPod:
      writers_.pods.erase(written.row_key);
      break;
    case ManifestKind::kService:
      writers_.services.erase(written.row_key);
      break;
    case ManifestKind::kEndpointSlice:
      writers_.endpoint_slices.erase(written.row_key);
      break;
    case ManifestKind::kConfigMap:
      writers_.config_maps.erase(written.row_key);
      break;
    case ManifestKind::kSecret:
      writers_.secrets.erase(written.row_key);
      break;
    case ManifestKind::kNode:
      if (written.row_key == config_.node.name) {
        write_node(unsaid_node());
      } else {
        writers_.nodes.erase(written.row_key);
      }
      break;
    case ManifestKind::kNamespace:
      writers_.namespaces.erase(written.row_key);
      break;
    case ManifestKind::kNetworkPolicy:
      writers_.network_policies.erase(written.row_key);
      break;
  }
}

// What is in force now is what a later run falls back on. A copy that cannot be written is tried again at each scan.
void ManifestSource::keep_copies() {
  std::map<std::string, std::vector<const ManifestObject*>> by_file;
  for (const auto& [path, copy] : last_good_.kept()) by_file[path];
  for (const auto& [key, entry] : ledger_.in_force()) by_file[*entry.path].push_back(entry.object);
  for (const auto& [path, objects] : by_file) {
    if (const auto kept = last_good_.keep(path, objects); !kept) {
      log::warn(kModule, "manifest's last good version is not kept", {{"file", path}, {"reason", kept.error()}});
    }
  }
}

Json ManifestSource::status() const {
  Json objects = Json::array();
  for (const auto& [key, entry] : ledger_.in_force()) {
    Json json = place_json(*entry.path, entry.object->place);
    json["lastGood"] = entry.object->kept;
    json["ours"] = entry.object->kind != ManifestKind::kPod || entry.object->row.index() != 0;
    if (entry.object->kind == ManifestKind::kPod) json["uid"] = entry.object->row_key;
    if (!entry.object->reported.empty()) json["withoutEffect"] = entry.object->reported;
    objects.push_back(std::move(json));
  }
  Json refused = Json::array();
  const auto refuse = [&](const std::string& path, const ManifestPlace& place, const FieldError& error) {
    Json json = place_json(path, place);
    json["field"] = error.field;
    json["reason"] = error.reason;
    if (error.line != 0) json["line"] = error.line;
    json["lastGoodInForce"] = !place.key().empty() && ledger_.in_force().contains(place.key());
    refused.push_back(std::move(json));
  };
  for (const auto& [path, file] : ledger_.files()) {
    for (const ManifestRefusal& refusal : file.refusals) {
      for (const FieldError& error : refusal.errors) refuse(path, refusal.place, error);
    }
  }
  for (const Ledger::Duplicate& each : ledger_.duplicates()) {
    refuse(*each.path, each.object->place, {"metadata.name", "already defined in " + each.owner, 0});
  }
  return {{"directory", config_.directory}, {"complete", complete_},         {"files", ledger_.files().size()},
          {"objects", std::move(objects)},  {"refused", std::move(refused)}, {"trouble", trouble_}};
}

}  // namespace fairlead::kube
