// SPDX-License-Identifier: Apache-2.0
// Structured logs: one line an event, text or JSON, fields as key=value after a message that never varies.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "agent/base/result.h"

namespace fairlead::log {

enum class Level { kDebug, kInfo, kWarn, kError };
enum class Format { kText, kJson };

// Sets up the process's log on stderr. Call once, before threads start.
void configure(Level level, Format format);

Result<Level> parse_level(std::string_view text);
Result<Format> parse_format(std::string_view text);

// One named fact of an event; anything fmt can print.
struct Field {
  template <class T>
  Field(std::string_view name, const T& value) : key(name), text(fmt::format("{}", value)) {}
  Field(std::string_view name, const Error& error) : key(name), text(error.message()) {}
  std::string_view key;
  std::string text;
};

using Fields = std::initializer_list<Field>;

void write(Level level, std::string_view module, std::string_view message, Fields fields);

inline void debug(std::string_view module, std::string_view message, Fields fields = {}) {
  write(Level::kDebug, module, message, fields);
}
inline void info(std::string_view module, std::string_view message, Fields fields = {}) {
  write(Level::kInfo, module, message, fields);
}
inline void warn(std::string_view module, std::string_view message, Fields fields = {}) {
  write(Level::kWarn, module, message, fields);
}
inline void error(std::string_view module, std::string_view message, Fields fields = {}) {
  write(Level::kError, module, message, fields);
}

}  // namespace fairlead::log
