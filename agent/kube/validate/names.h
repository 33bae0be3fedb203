// SPDX-License-Identifier: Apache-2.0
// The API's rules for names and labels. Each answers why `text` is none, or "" when it is one.
#pragma once

#include <string>
#include <string_view>

namespace fairlead::kube {

std::string not_dns_label(std::string_view text);      // RFC 1123 label, at most 63: containers, namespaces, Services
std::string not_dns_subdomain(std::string_view text);  // labels with dots, at most 253: most objects' names
std::string not_search_path(std::string_view text);    // the same, '_' allowed as a letter: search paths of resolvers
std::string not_port_name(std::string_view text);      // IANA service name, at most 15
std::string not_label_key(std::string_view text);      // [prefix/]name
std::string not_label_value(std::string_view text);
std::string not_env_name(std::string_view text);
std::string not_config_key(std::string_view text);  // key of a ConfigMap or Secret: also a file's name

}  // namespace fairlead::kube
