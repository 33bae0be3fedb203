// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/render.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace fairlead::cli {
namespace {

// Whether YAML would read the text back as this very string without quotes.
bool plain(const std::string& text) {
  static const std::vector<std::string> kWords{"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (text.empty() || std::ranges::find(kWords, lower) != kWords.end()) return false;
  if (std::isalnum(static_cast<unsigned char>(text[0])) == 0 && text[0] != '/') return false;
  if (text.back() == ':' || text.back() == ' ' || text.find(": ") != std::string::npos ||
      text.find(" #") != std::string::npos) {
    return false;
  }
  if (!std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; })) return false;
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  const bool number = *end == '\0';
  const bool like_a_number = lower.find_first_not_of("0123456789_ox:e+-") == std::string::npos;
  return !number && !(like_a_number && std::isdigit(static_cast<unsigned char>(text[0])) != 0);
}

std::string scalar(const Json& value) {
  if (value.is_string() && plain(value.get_ref<const std::string&>())) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool nested(const Json& value) {
  return value.is_structured() && !value.empty();
}

// Lines of a value that begins on a line of its own.
void emit(const Json& value, const std::string& indent, std::string& out) {
  if (!nested(value)) {
    out += indent + scalar(value) + "\n";
  } else if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      out += indent + scalar(key) + ":";
      if (nested(member)) {
        out += "\n";
        emit(member, indent + "  ", out);
      } else {
        out += " " + scalar(member) + "\n";
      }
    }
  } else {
    for (const Json& item : value) {
      std::string lines;
      emit(item, indent + "  ", lines);
      lines[indent.size()] = '-';
      out += lines;
    }
  }
}

}  // namespace

std::string render_table(const Json& rows, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> lines(1);
  for (const Column& column : columns) lines[0].push_back(column.title);
  for (const Json& row : rows) {
    std::vector<std::string>& line = lines.emplace_back();
    for (const Column& column : columns) {
      std::string text = column.cell(row);
      std::ranges::replace(text, '\n', ' ');
      line.push_back(text.empty() ? "<none>" : std::move(text));
    }
  }
  std::vector<std::size_t> widths(columns.size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string out;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i + 1 < line.size(); ++i) out += fmt::format("{:<{}}", line[i], widths[i] + 3);
    out += line.back() + "\n";
  }
  return out;
}

std::string render_yaml(const Json& value) {
  std::string out;
  emit(value, "", out);
  return out;
}

std::string cell_text(const Json& value) {
  if (value.is_null()) return {};
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string all;
  for (const Json& item : value) all += (all.empty() ? "" : ",") + cell_text(item);
  return all;
}

const Json& at(const Json& row, const std::string& name) {
  static const Json kNull;
  const auto found = row.find(name);
  return found == row.end() ? kNull : *found;
}

std::string socket_text(const Json& address, const Json& port) {
  const std::string host = cell_text(address);
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + cell_text(port);
}

}  // namespace fairlead::cli
