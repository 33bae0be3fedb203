// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/token_bucket.h"

#include <linux/pkt_sched.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "agent/netlink/message.h"

namespace fairlead::netlink {
namespace {

constexpr std::uint32_t kHandle = 1U << 16;  // "1:"

tcmsg root_of(std::uint32_t ifindex, std::uint32_t handle) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = static_cast<int>(ifindex);
  header.tcm_parent = TC_H_ROOT;
  header.tcm_handle = handle;
  return header;
}

std::optional<std::uint64_t> read_rate(const nlmsghdr* header) {
  nlattr* attrs[TCA_MAX + 1];
  if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(tcmsg), attrs, TCA_MAX, nullptr) != 0) return std::nullopt;
  if (attrs[TCA_KIND] == nullptr || std::string("tbf") != nla_get_string(attrs[TCA_KIND])) return std::nullopt;
  nlattr* options[TCA_TBF_MAX + 1];
  if (attrs[TCA_OPTIONS] == nullptr || nla_parse_nested(options, TCA_TBF_MAX, attrs[TCA_OPTIONS], nullptr) != 0 ||
      options[TCA_TBF_PARMS] == nullptr) {
    return std::nullopt;
  }
  if (options[TCA_TBF_RATE64] != nullptr) return nla_get_u64(options[TCA_TBF_RATE64]);
  tc_tbf_qopt parameters{};
  std::memcpy(&parameters, nla_data(options[TCA_TBF_PARMS]),
              std::min<std::size_t>(sizeof(parameters), static_cast<std::size_t>(nla_len(options[TCA_TBF_PARMS]))));
  return parameters.rate.rate;
}

}  // namespace

Result<> set_token_bucket(Socket& socket, std::uint32_t ifindex, const TokenBucket& bucket) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  tc_tbf_qopt parameters{};
  parameters.rate.linklayer = TC_LINKLAYER_ETHERNET;  // so that the kernel counts by itself, without a table of ours
  parameters.rate.rate = static_cast<std::uint32_t>(std::min(bucket.rate, kMost));
  parameters.limit = bucket.limit;
  Message message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, root_of(ifindex, kHandle));
  message.text(TCA_KIND, "tbf").begin(TCA_OPTIONS).bytes(TCA_TBF_PARMS, &parameters, sizeof(parameters));
  if (bucket.rate > kMost) message.bytes(TCA_TBF_RATE64, &bucket.rate, sizeof(bucket.rate));
  message.u32(TCA_TBF_BURST, bucket.burst).end();
  return socket.conversation().exchange(message, fmt::format("device #{}: limit its rate", ifindex));
}

Result<std::optional<std::uint64_t>> token_bucket_rate(Socket& socket, std::uint32_t ifindex) {
  // Without the flag the kernel tells listeners of the group alone.
  Message message(RTM_GETQDISC, NLM_F_ECHO, root_of(ifindex, 0));
  std::optional<std::uint64_t> rate;
  auto asked = socket.conversation().exchange(message, fmt::format("device #{}: read its rate limit", ifindex),
                                              [&](const nlmsghdr* header) { rate = read_rate(header); });
  if (!asked && asked.error().code != Code::kNotFound) return std::unexpected(std::move(asked).error());
  return rate;
}

}  // namespace fairlead::netlink
