// SPDX-License-Identifier: Apache-2.0
#include "agent/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <nlohmann/json.hpp>

namespace fairlead::log {
namespace {

Format g_format = Format::kText;  // set once by configure(), before threads start

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string_view name_of(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarn:
      return "warn";
    case Level::kError:
      return "error";
  }
  return "info";
}

bool needs_quotes(std::string_view text) {
  return text.empty() || text.find_first_of(" \t\n\"=") != std::string_view::npos;
}

std::string text_line(std::string_view module, std::string_view message, Fields fields) {
  std::string line = fmt::format("{}: {}", module, message);
  for (const Field& field : fields) {
    line += needs_quotes(field.text)
                ? fmt::format(" {}={}", field.key,
                              nlohmann::json(field.text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
                : fmt::format(" {}={}", field.key, field.text);
  }
  return line;
}

std::string json_line(Level level, std::string_view module, std::string_view message, Fields fields) {
  nlohmann::ordered_json line;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  line["ts"] = static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(now).count()) / 1e6;
  line["level"] = name_of(level);
  line["module"] = module;
  line["msg"] = message;
  for (const Field& field : fields) line[std::string(field.key)] = field.text;
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

void configure(Level level, Format format) {
  g_format = format;
  auto logger = spdlog::stderr_logger_mt("fairlead");
  logger->set_pattern(format == Format::kJson ? "%v" : "%Y-%m-%dT%H:%M:%S.%f%z %L %v");
  logger->set_level(to_spdlog(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

Result<Level> parse_level(std::string_view text) {
  for (const Level level : {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError}) {
    if (text == name_of(level)) return level;
  }
  return fail(Code::kInvalid, "log level \"{}\": want debug, info, warn or error", text);
}

Result<Format> parse_format(std::string_view text) {
  if (text == "text") return Format::kText;
  if (text == "json") return Format::kJson;
  return fail(Code::kInvalid, "log format \"{}\": want text or json", text);
}

void write(Level level, std::string_view module, std::string_view message, Fields fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(to_spdlog(level))) return;
  logger->log(
      to_spdlog(level), "{}",
      g_format == Format::kJson ? json_line(level, module, message, fields) : text_line(module, message, fields));
}

}  // namespace fairlead::log
