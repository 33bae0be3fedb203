// SPDX-License-Identifier: Apache-2.0
// Attachment: one interface of one container, as the CNI spec counts them. Pure functions over it: what a request asks,
// what its device is called, what a runtime is told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/base/mac.h"

namespace fairlead::network {

// The gateway that every pod sees: the host side of its own veth.
const IpAddress& gateway(Family family);  // 169.254.1.1, fe80::1

struct Attachment {
  std::string container;  // CNI_CONTAINERID
  std::string ifname;     // CNI_IFNAME
  std::string netns;      // CNI_NETNS: a path
  std::string pod_ns;     // who it is for; empty where the runtime does not say
  std::string pod_name;
  std::string pod_uid;
  std::uint64_t netns_cookie = 0;
  std::vector<IpAddress> addresses;

  std::string key() const { return container + "/" + ifname; }
  std::string pod() const { return pod_ns + "/" + pod_name; }
};

// Reads the arguments of cni.add, cni.del and cni.check. kInvalid names the argument. `need_netns`: DEL may come
// without.
Result<Attachment> parse_attachment(const Json& args, bool need_netns);

// Argument cniVersion; kInvalid where it is none that cni_result() writes.
Result<std::string> parse_cni_version(const Json& args);

// The host-side device: "fl" and 13 hex digits, always the same for a key.
std::string device_name(const Attachment& attachment);
// What the device says of itself (IFLA_IFALIAS), and the way back; kNotFound: it is no device of ours.
std::string device_alias(const Attachment& attachment);
Result<Attachment> parse_device_alias(const std::string& alias);
// Locally administered addresses of the two ends, always the same for a key.
Mac pod_mac(const Attachment& attachment);
Mac host_mac(const Attachment& attachment);

// CNI spec 1.1, section 5: the result of ADD in the version that the request is written in.
Json cni_result(const Attachment& attachment, const std::string& cni_version, std::uint32_t mtu);

Json to_json(const Attachment& attachment);
Result<Attachment> from_json(const Json& json);

}  // namespace fairlead::network
