// SPDX-License-Identifier: Apache-2.0
#include "test/tools/echo/net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fairlead::echo {
namespace {

long parse_number(const std::string& text, const std::string& name, std::string* rest = nullptr) {
  long value = 0;
  const char* end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || value < 0 || (!rest && next != end)) usage(name + ": not a number: " + text);
  if (rest) rest->assign(next, end);
  return value;
}

}  // namespace

void usage(const std::string& why) {
  std::fprintf(
      stderr,
      "fl-echo: %s\n"
      "usage: fl-echo serve [--http PORT] [--tcp PORT] [--udp PORT] [--name N] [--unready-file F] [--drain 10s]\n"
      "       fl-echo get URL [N] [--timeout 2s] [--show yes]          http://IP:PORT/PATH, tcp://…, udp://…\n"
      "       fl-echo load --url URL [--rate N/s] [--keepalive CLIENTS] [--keepalive-rate N/s]\n"
      "                    [--duration 30s] [--until-file F] [--timeout 500ms]\n"
      "       fl-echo flood udp://IP:PORT [--listen PORT] [--duration 2s]\n",
      why.c_str());
  std::exit(2);
}

void fatal(const std::string& what) {
  std::fprintf(stderr, "fl-echo: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

Flags::Flags(int argc, char** argv, const std::vector<std::string>& known) {
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      alone.push_back(word);
      continue;
    }
    if (std::ranges::find(known, word.substr(2)) == known.end()) usage("unknown flag " + word);
    if (++i == argc) usage(word + " needs a value");
    values_[word.substr(2)] = argv[i];
  }
}

std::string Flags::text(const std::string& name, const std::string& otherwise) const {
  const auto it = values_.find(name);
  return it == values_.end() ? otherwise : it->second;
}

long Flags::number(const std::string& name, long otherwise) const {
  const auto it = values_.find(name);
  return it == values_.end() ? otherwise : parse_number(it->second, "--" + name);
}

milliseconds Flags::duration(const std::string& name, milliseconds otherwise) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return otherwise;
  std::string unit;
  const long value = parse_number(it->second, "--" + name, &unit);
  if (unit == "ms") return milliseconds(value);
  if (unit == "s") return std::chrono::seconds(value);
  if (unit == "m") return std::chrono::minutes(value);
  usage("--" + name + ": a duration ends with ms, s or m: " + it->second);
}

Target Target::parse(const std::string& url) {
  Target target;
  const auto colon = url.find("://");
  if (colon == std::string::npos) usage("not a URL: " + url);
  target.scheme = url.substr(0, colon);
  std::string rest = url.substr(colon + 3);
  if (const auto slash = rest.find('/'); slash != std::string::npos) {
    target.path = rest.substr(slash);
    rest.resize(slash);
  }
  const auto port_at = rest.rfind(':');
  std::string host = rest.substr(0, port_at);
  const bool port_given = port_at != std::string::npos && (!rest.starts_with('[') || rest[port_at - 1] == ']');
  if (!port_given) host = rest;
  const auto port = htons(port_given ? static_cast<std::uint16_t>(parse_number(rest.substr(port_at + 1), "port")) : 80);
  if (host.starts_with('[') && host.ends_with(']')) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(target.address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = port;
    target.length = sizeof v6;
    if (inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6.sin6_addr) != 1)
      usage("not an address: " + url);
  } else {
    auto& v4 = reinterpret_cast<sockaddr_in&>(target.address);
    v4.sin_family = AF_INET;
    v4.sin_port = port;
    target.length = sizeof v4;
    if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) != 1) usage("not an address: " + url);
  }
  target.authority = echo::text(target.address);
  return target;
}

std::string text(const sockaddr_storage& address) {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  const std::string port = std::to_string(ntohs(v6.sin6_port));
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], host, sizeof host);
    return std::string(host) + ":" + port;
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
  return "[" + std::string(host) + "]:" + port;
}

void raise_file_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace fairlead::echo
