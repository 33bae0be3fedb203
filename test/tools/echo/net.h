// SPDX-License-Identifier: Apache-2.0
// fl-echo's few words about flags, addresses and time. Nothing here knows of the product: the tool judges it from
// outside.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace fairlead::echo {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// Ends the program with status 2: wrong usage.
[[noreturn]] void usage(const std::string& why);
// Ends the program with status 1 and errno's text.
[[noreturn]] void fatal(const std::string& what);

// Command line after the subcommand: `--name value` pairs of the known names, and what stands alone.
class Flags {
 public:
  Flags(int argc, char** argv, const std::vector<std::string>& known);
  std::string text(const std::string& name, const std::string& otherwise = "") const;
  long number(const std::string& name, long otherwise) const;
  // "500ms", "30s", "2m".
  milliseconds duration(const std::string& name, milliseconds otherwise) const;

  std::vector<std::string> alone;

 private:
  std::map<std::string, std::string> values_;
};

// Where to send: http://IP:PORT/PATH, tcp://IP:PORT or udp://IP:PORT; an IPv6 address stands in brackets.
struct Target {
  std::string scheme;
  std::string authority;  // "IP:PORT" as text(address) writes it
  std::string path = "/";
  sockaddr_storage address{};
  socklen_t length = 0;

  static Target parse(const std::string& url);
};

// "10.0.0.1:80", "[fd00::1]:80"; a v4-mapped address reads as IPv4.
std::string text(const sockaddr_storage& address);

// Raises the limit of open files to what the process may have.
void raise_file_limit();

}  // namespace fairlead::echo
