// SPDX-License-Identifier: Apache-2.0
// Attachment: one interface of one container, as the CNI spec counts them. Pure functions over it: what a request asks,
// what its device is called, what a runtime is told.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/base/mac.h"
#include "agent/network/capabilities.h"

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
  std::string network;  // name of the CNI configuration; empty where nobody remembers it
  Capabilities asked;
  std::uint64_t netns_cookie = 0;
  std::vector<IpAddress> addresses;
  std::int64_t added_ns = 0;  // boot_time_ns() when it was asked for

  std::string key() const { return container + "/" + ifname; }
  std::string pod() const { return pod_ns + "/" + pod_name; }
};

// Reads the arguments of cni.add, cni.del and cni.check. kInvalid names the argument. `need_netns`: DEL may come
// without.
Result<Attachment> parse_attachment(const Json& args, bool need_netns);

// The host-side device: "fl" and 13 hex digits, always the same for a key.
std::string device_name(const Attachment& attachment);
// What the device says of itself (IFLA_IFALIAS), and the way back; kNotFound: it is no device of ours.
std::string device_alias(const Attachment& attachment);
Result<Attachment> parse_device_alias(const std::string& alias);
// Locally administered addresses of the two ends, always the same for a key; the pod's may be asked for.
Mac pod_mac(const Attachment& attachment);
Mac host_mac(const Attachment& attachment);

// CNI spec 1.1, section 5: the result of ADD. The plugin writes it in older versions and joins it with others'.
Json cni_result(const Attachment& attachment, std::uint32_t mtu);
// Compares a runtime's idea of the attachment (prevResult of CHECK) with ours: the interface and its addresses.
// kConflict says what differs. Later plugins may have added to it.
Result<> compare(const Attachment& attachment, const Json& previous);

// Arguments of cni.gc: the keys of attachments that the runtime has in its network.
struct GarbageList {
  std::string network;
  std::set<std::string> valid;
};
Result<GarbageList> parse_garbage_list(const Json& args);

Json to_json(const Attachment& attachment);
Result<Attachment> from_json(const Json& json);

}  // namespace fairlead::network
