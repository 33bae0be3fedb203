// SPDX-License-Identifier: Apache-2.0
// Any bytes as what a container runtime gives the CNI plugin: a line for each of CNI_COMMAND, CNI_CONTAINERID,
// CNI_IFNAME, CNI_NETNS and CNI_ARGS, then the network configuration. What the plugin accepts goes through the local
// protocol to what the agent makes of it. The bytes are also read as a message of that protocol.
#include <cstring>
#include <map>

#include "agent/network/attachment.h"
#include "cni-plugin/cni_result.h"
#include "test/fuzz/fuzzer.h"

namespace fairlead {
namespace {

void read_by_agent(const Json& args) {
  const auto attachment = network::parse_attachment(args, true);
  if (!attachment) {
    fuzz::require(attachment.error().what.starts_with("argument"), "the argument's name: " + attachment.error().what);
    return;
  }
  fuzz::require(network::device_name(*attachment).size() == 15, "a device's name");
  const std::string alias = network::device_alias(*attachment);
  fuzz::require(alias.size() < 256, "an alias that a device takes: " + alias);
  const auto marked = network::parse_device_alias(alias);
  fuzz::require(marked && marked->key() == attachment->key(), "the alias names its attachment: " + alias);
  network::Attachment addressed = *attachment;
  addressed.addresses = {IpAddress::from_v4({10, 0, 0, 1})};
  const auto journal = network::from_json(network::to_json(addressed));
  fuzz::require(journal && journal->key() == addressed.key() && journal->addresses == addressed.addresses,
                "the journal gives it back");
  (void)network::cni_result(addressed, 1500).dump(-1, ' ', false, Json::error_handler_t::replace);
  (void)network::compare(addressed, args.value("prevResult", Json()));
}

void read_by_plugin(std::string text) {
  std::map<std::string, std::string> variables;
  for (const char* name : {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"}) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    variables[name] = text.substr(0, end);
    text.erase(0, end + 1);
  }
  const auto request = cni::parse_request([&](const char* name) { return variables[name]; }, text);
  if (!request) {
    fuzz::require(!request.error().message.empty(), "a refusal says why");
    (void)cni::error_result({}, request.error()).dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  if (request->op.empty()) return;
  (void)cni::add_result(*request, network::cni_result({}, 1500));
  std::string sent = encode_local_message({{"op", request->op}, {"args", request->args}});
  const auto received = take_local_message(sent);
  fuzz::require(received && *received, "what the plugin sends is a message");
  read_by_agent((**received)["args"]);
}

}  // namespace
}  // namespace fairlead

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fairlead;
  const std::string text(reinterpret_cast<const char*>(data), size);
  read_by_plugin(text);
  std::string raw = text;
  if (const auto message = take_local_message(raw, 1U << 16); message && *message) read_by_agent(**message);
  if (const Json json = Json::parse(text, nullptr, false); !json.is_discarded()) {
    read_by_agent(json);
    (void)network::from_json(json);
    (void)decode_local_answer(json);
  }
  return 0;
}
