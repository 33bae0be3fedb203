// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/config_objects.h"

#include <utility>
#include <vector>

#include "agent/kube/decode.h"

namespace fairlead::kube {
namespace {

// One object by its name: one row, which says so when there is none.
class OneObjectSink final : public ObjectSink {
 public:
  using Decode = Result<Keyed<model::ConfigData>> (*)(std::string_view);
  OneObjectSink(TableWriter<model::ConfigData> writer, std::string key, Decode decode)
      : writer_(std::move(writer)), key_(std::move(key)), decode_(decode) {}

  void begin_list() override { found_ = false; }
  void end_list() override {
    if (!found_) write_absent();
  }
  Result<> put(const ObjectHead& head, std::string_view object) override {
    found_ = true;
    if (head.resource_version == version_) return {};
    FL_LET(auto keyed, decode_(object));
    version_ = head.resource_version;
    writer_.upsert(key_, std::move(keyed.second));
    return {};
  }
  void remove(const ObjectHead&) override {
    found_ = false;
    write_absent();
  }

 private:
  void write_absent() {
    version_.clear();
    const std::size_t slash = key_.find('/');
    model::ConfigData row;
    row.id.ns = key_.substr(0, slash);
    row.id.name = key_.substr(slash + 1);
    row.absent = true;
    writer_.upsert(key_, std::move(row));
  }

  TableWriter<model::ConfigData> writer_;
  std::string key_;
  Decode decode_;
  std::string version_;  // of the row
  bool found_ = false;
};

}  // namespace

ConfigObjects::ConfigObjects(Loop& loop, HttpClient& http, Deps deps)
    : loop_(loop),
      http_(http),
      deps_(std::move(deps)),
      wanted_(metrics::gauge(deps_.registry, "fairlead_config_objects_wanted",
                             "ConfigMaps and Secrets that pods here use, each watched by name.")) {}

void ConfigObjects::start() {
  deps_.config_maps.set_complete();
  deps_.secrets.set_complete();
  deps_.wants.attach(loop_, [this](const std::vector<model::ConfigWant>& wants) {
    for (const auto& want : wants) take(want);
    wanted_.Set(static_cast<double>(reflectors_.size()));
  });
}

const TableWriter<model::ConfigData>& ConfigObjects::writer(model::ConfigKind kind) const {
  return kind == model::ConfigKind::kSecret ? deps_.secrets : deps_.config_maps;
}

void ConfigObjects::take(const model::ConfigWant& want) {
  if (!want.wanted) {
    reflectors_.erase(want.key());
    writer(want.kind).erase(want.object);
    return;
  }
  auto& reflector = reflectors_[want.key()];
  if (reflector) return;
  const bool secret = want.kind == model::ConfigKind::kSecret;
  const std::size_t slash = want.object.find('/');
  ReflectorConfig config;
  config.kind = secret ? "Secret" : "ConfigMap";
  config.object = want.object;
  config.path =
      fmt::format("/api/v1/namespaces/{}/{}", want.object.substr(0, slash), secret ? "secrets" : "configmaps");
  config.selector = "fieldSelector=metadata.name%3D" + want.object.substr(slash + 1);
  reflector = std::make_unique<Reflector>(
      loop_, http_, std::move(config),
      std::make_unique<OneObjectSink>(writer(want.kind), want.object, secret ? decode_secret : decode_config_map),
      deps_.registry);
  reflector->start();
}

void ConfigObjects::for_each(const std::function<void(const Reflector&)>& visit) const {
  for (const auto& [key, reflector] : reflectors_) visit(*reflector);
}

}  // namespace fairlead::kube
