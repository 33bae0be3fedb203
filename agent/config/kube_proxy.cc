// SPDX-License-Identifier: Apache-2.0
#include "agent/config/kube_proxy.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "agent/base/balancing.h"
#include "agent/config/fields.h"

namespace fairlead::config {
namespace {

// Every field that changes nothing here. "x.*": whatever is below it.
const std::set<std::string, std::less<>> kWithoutEffect{
    "bindAddressHardFail",
    "clientConnection.acceptContentTypes",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "clusterCIDR",
    "configSyncPeriod",
    "detectLocal.bridgeInterface",
    "detectLocal.interfaceNamePrefix",
    "detectLocalMode",
    "enableProfiling",
    "featureGates.*",
    "iptables.localhostNodePorts",
    "iptables.masqueradeAll",
    "iptables.masqueradeBit",
    "iptables.minSyncPeriod",
    "iptables.snatNodeInternalIP",
    "iptables.syncPeriod",
    "ipvs.excludeCIDRs",
    "ipvs.minSyncPeriod",
    "ipvs.strictARP",
    "ipvs.syncPeriod",
    "ipvs.tcpFinTimeout",
    "ipvs.tcpTimeout",
    "ipvs.udpTimeout",
    "logging.flushFrequency",
    "logging.options.*",
    "logging.vmodule",
    "mode",
    "nftables.masqueradeAll",
    "nftables.masqueradeBit",
    "nftables.minSyncPeriod",
    "nftables.syncPeriod",
    "nodePortAddresses",
    "oomScoreAdj",
    "portRange",
    "showHiddenMetricsForVersion",
    "windowsRunAsService",
    "winkernel.enableDSR",
    "winkernel.forwardHealthCheckVip",
    "winkernel.networkName",
    "winkernel.rootHnsEndpointName",
    "winkernel.sourceVip",
};

// IPVS's schedulers, for mode ipvs. Those that are missing have no like here.
const std::map<std::string, Balancing, std::less<>> kSchedulers{
    {"rr", Balancing::kRoundRobin},       {"wrr", Balancing::kRoundRobin},
    {"lc", Balancing::kLeastConnections}, {"wlc", Balancing::kLeastConnections},
    {"sh", Balancing::kSourceHash},       {"dh", Balancing::kDestinationHash},
    {"mh", Balancing::kMaglev},
};

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file) {}

  Result<KubeProxyFile> read(const YAML::Node& document) {
    if (!document.IsMap()) return fail(Code::kInvalid, "{}: want a map with apiVersion and kind", file_);
    if (const YAML::Node mode = document["mode"]; mode && mode.IsScalar()) mode_ = mode.Scalar();
    FL_TRY(visit(document, ""));
    for (const char* name : {"apiVersion", "kind"}) {
      if (!document[name]) return fail(Code::kInvalid, "{}: {}: required value", file_, name);
    }
    return std::move(out_);
  }

 private:
  using Act = Result<> (Reader::*)(const std::string& text, const std::string& place);

  Result<> visit(const YAML::Node& map, const std::string& prefix) {
    std::map<std::string, int> lines;
    for (const auto& entry : map) {
      const std::string path = prefix + entry.first.as<std::string>();
      const std::string place = fmt::format("{}:{}: {}", file_, entry.first.Mark().line + 1, path);
      if (const auto [first, fresh] = lines.emplace(path, entry.first.Mark().line + 1); !fresh) {
        return fail(Code::kInvalid, "{}: set twice, first on line {}", place, first->second);
      }
      FL_TRY(judge(entry.second, path, place));
    }
    return {};
  }

  Result<> judge(const YAML::Node& value, const std::string& path, const std::string& place) {
    const auto act = actions().find(path);
    const bool is_group =
        std::ranges::any_of(names(), [&](const std::string& name) { return name.starts_with(path + "."); });
    if (act == actions().end() && !is_group && !kWithoutEffect.contains(path)) {
      const std::string near = nearest(path, names());
      return fail(Code::kInvalid, "{}: unknown field{}", place,
                  near.empty() ? "" : fmt::format("; did you mean {}?", near));
    }
    if (value.IsNull()) return {};
    if (is_group) {
      if (!value.IsMap()) return fail(Code::kInvalid, "{}: want a map", place);
      if (!kWithoutEffect.contains(path + ".*")) return visit(value, path + ".");
      if (value.size() != 0) out_.without_effect.push_back(place);
      return {};
    }
    if (act == actions().end()) {
      const bool empty = value.IsScalar() ? value.Scalar().empty() : value.size() == 0;
      if (!empty) out_.without_effect.push_back(place);
      return {};
    }
    if (!value.IsScalar()) return fail(Code::kInvalid, "{}: want one value", place);
    if (value.Scalar().empty()) return {};  // as if it were not there
    if (auto done = (this->*act->second)(value.Scalar(), place); !done) {
      return fail_with(std::move(done).error(), place);
    }
    return {};
  }

  template <const char* want>
  Result<> check(const std::string& text, const std::string& /*place*/) {
    if (text != want) return fail(Code::kInvalid, "\"{}\": want {}", text, want);
    return {};
  }
  static constexpr char kVersion[] = "kubeproxy.config.k8s.io/v1alpha1";
  static constexpr char kNodeName[] = "nodeName";
  static constexpr char kKubeconfig[] = "kubeconfig";
  static constexpr char kLogFormat[] = "logFormat";

  template <const char* field>
  Result<> same(const std::string& text, const std::string& place) {
    out_.settings.push_back({field, text, place});
    return {};
  }

  Result<> bind_address(const std::string& text, const std::string& place) {
    FL_LET(const IpAddress address, IpAddress::parse(text));
    if (!address.is_unspecified()) out_.settings.push_back({"nodeIP", text, place});
    return {};
  }
  // kube-proxy adds the port where it is missing.
  Result<> serve(const char* field, std::uint16_t port, const std::string& text, const std::string& place) {
    const auto address = IpAddress::parse(text);
    out_.settings.push_back({field, address ? SocketAddress{*address, port}.str() : text, place});
    return {};
  }
  Result<> healthz(const std::string& text, const std::string& place) {
    return serve("healthzBindAddress", 10256, text, place);
  }
  Result<> metrics(const std::string& text, const std::string& place) {
    return serve("metricsBindAddress", 10249, text, place);
  }
  Result<> verbosity(const std::string& text, const std::string& place) {
    std::uint32_t level = 0;
    FL_TRY(number(text, level));
    out_.settings.push_back({"logLevel", level >= 4 ? "debug" : "info", place});
    return {};
  }
  Result<> scheduler(const std::string& text, const std::string& place) {
    const auto known = kSchedulers.find(text);
    if (mode_ != "ipvs" || known == kSchedulers.end()) {
      out_.without_effect.push_back(place);
    } else {
      out_.settings.push_back({"loadBalancing", std::string(to_string(known->second)), place});
    }
    return {};
  }

  static Result<> number(const std::string& text, std::uint32_t& out) {
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, out);
    if (error != std::errc{} || at != end) return fail(Code::kInvalid, "\"{}\" is not a number of 0 or more", text);
    return {};
  }
  // 0 leaves what is.
  template <std::chrono::milliseconds ConntrackSettings::* member>
  Result<> timeout(const std::string& text, const std::string& /*place*/) {
    FL_LET(const std::chrono::milliseconds value, parse_duration(text));
    if (value.count() != 0) out_.conntrack.*member = value;
    return {};
  }
  template <std::uint32_t ConntrackSettings::* member>
  Result<> entries(const std::string& text, const std::string& /*place*/) {
    return number(text, out_.conntrack.*member);
  }
  Result<> liberal(const std::string& text, const std::string& /*place*/) {
    if (text != "true" && text != "false") return fail(Code::kInvalid, "\"{}\" is neither true nor false", text);
    out_.conntrack.tcp_be_liberal = text == "true";
    return {};
  }

  static const std::map<std::string, Act, std::less<>>& actions() {
    using C = ConntrackSettings;
    static const std::map<std::string, Act, std::less<>> all{
        {"apiVersion", &Reader::check<kVersion>},
        {"kind", &Reader::check<kKubeProxyKind>},
        {"bindAddress", &Reader::bind_address},
        {"clientConnection.kubeconfig", &Reader::same<kKubeconfig>},
        {"conntrack.maxPerCore", &Reader::entries<&C::max_per_core>},
        {"conntrack.min", &Reader::entries<&C::min>},
        {"conntrack.tcpBeLiberal", &Reader::liberal},
        {"conntrack.tcpCloseWaitTimeout", &Reader::timeout<&C::tcp_close_wait_timeout>},
        {"conntrack.tcpEstablishedTimeout", &Reader::timeout<&C::tcp_established_timeout>},
        {"conntrack.udpStreamTimeout", &Reader::timeout<&C::udp_stream_timeout>},
        {"conntrack.udpTimeout", &Reader::timeout<&C::udp_timeout>},
        {"healthzBindAddress", &Reader::healthz},
        {"hostnameOverride", &Reader::same<kNodeName>},
        {"ipvs.scheduler", &Reader::scheduler},
        {"logging.format", &Reader::same<kLogFormat>},
        {"logging.verbosity", &Reader::verbosity},
        {"metricsBindAddress", &Reader::metrics},
    };
    return all;
  }
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = [] {
      std::vector<std::string> list(kWithoutEffect.begin(), kWithoutEffect.end());
      for (const auto& [name, act] : actions()) list.push_back(name);
      return list;
    }();
    return all;
  }

  const std::string& file_;
  std::string mode_;
  KubeProxyFile out_;
};

}  // namespace

Result<KubeProxyFile> read_kube_proxy_file(const std::string& file, const std::string& text) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() != 1) {
      return fail(Code::kInvalid, "{}: want one document, there are {}", file, documents.size());
    }
    return Reader(file).read(documents.front());
  } catch (const YAML::Exception& error) {
    return fail(Code::kInvalid, "{}:{}: {}", file, error.mark.line + 1, error.msg);
  }
}

}  // namespace fairlead::config
