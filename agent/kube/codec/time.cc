// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/time.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace fairlead::kube {
namespace {

// `count` digits at the front, taken off `text`.
bool take_digits(std::string_view& text, std::size_t count, unsigned& value) {
  if (text.size() < count) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + count, value);
  if (error != std::errc{} || end != text.data() + count) return false;
  text.remove_prefix(count);
  return true;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// Seconds from 1970 at which the years begin that have four digits, and end.
constexpr std::int64_t kYear0 = -62'167'219'200;
constexpr std::int64_t kYear10000 = 253'402'300'800;

struct Unit {
  std::string_view name;
  std::int64_t nanoseconds;
};
constexpr std::array<Unit, 8> kUnits{{{"ns", 1},
                                      {"us", 1'000},
                                      {"\u00b5s", 1'000},
                                      {"\u03bcs", 1'000},
                                      {"ms", 1'000'000},
                                      {"s", 1'000'000'000},
                                      {"m", 60'000'000'000},
                                      {"h", 3'600'000'000'000}}};

std::string trim_fraction(std::int64_t whole, std::int64_t part, int digits) {
  std::string text = fmt::format("{}.{:0{}}", whole, part, digits);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

Result<Timestamp> parse_time(std::string_view text) {
  const auto bad = [whole = text] {
    return fail(Code::kInvalid, "\"{}\" is no time: expected RFC 3339, like 2026-01-31T12:00:00Z", whole);
  };
  unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!take_digits(text, 4, year) || !take(text, '-') || !take_digits(text, 2, month) || !take(text, '-') ||
      !take_digits(text, 2, day) || !(take(text, 'T') || take(text, 't')) || !take_digits(text, 2, hour) ||
      !take(text, ':') || !take_digits(text, 2, minute) || !take(text, ':') || !take_digits(text, 2, second)) {
    return bad();
  }
  Timestamp time;
  if (take(text, '.')) {
    std::int32_t scale = 100'000'000;
    if (text.empty() || text.front() < '0' || text.front() > '9') return bad();
    for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1), scale /= 10) {
      time.nanos += (text.front() - '0') * scale;
    }
  }
  std::int64_t offset = 0;  // seconds east of UTC
  if (!take(text, 'Z') && !take(text, 'z')) {
    const bool west = text.starts_with('-');
    unsigned hours = 0, minutes = 0;
    if (!(take(text, '+') || take(text, '-')) || !take_digits(text, 2, hours) || !take(text, ':') ||
        !take_digits(text, 2, minutes) || hours > 23 || minutes > 59) {
      return bad();
    }
    offset = (west ? -60 : 60) * static_cast<std::int64_t>(hours * 60 + minutes);
  }
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (!text.empty() || !date.ok() || hour > 23 || minute > 59 || second > 59) return bad();
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  time.seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset;
  if (time.seconds < kYear0 || time.seconds >= kYear10000) return bad();
  return time;
}

Result<Duration> parse_duration(std::string_view text) {
  const auto bad = [whole = text] {
    return fail(Code::kInvalid, "\"{}\" is no duration: expected numbers with units, like 1h30m or 500ms", whole);
  };
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text == "0") return Duration::zero();
  if (text.empty()) return bad();
  __int128 total = 0;
  while (!text.empty()) {
    const std::size_t end = text.find_first_not_of("0123456789.");
    if (end == 0 || end == text.npos) return bad();
    const std::string_view number = text.substr(0, end);
    text.remove_prefix(end);
    const std::string_view name = text.substr(0, text.find_first_of("0123456789."));
    text.remove_prefix(name.size());
    const auto* unit = std::ranges::find(kUnits, name, &Unit::name);
    const std::size_t dot = number.find('.');
    const std::string_view whole_text = number.substr(0, dot);
    std::int64_t whole = 0;
    if (unit == kUnits.end() || number == ".") return bad();
    if (!whole_text.empty()) {
      const auto [stop, error] = std::from_chars(whole_text.data(), whole_text.data() + whole_text.size(), whole);
      if (error != std::errc{} || stop != whole_text.data() + whole_text.size()) return bad();
    }
    total += static_cast<__int128>(whole) * unit->nanoseconds;
    if (dot != number.npos) {
      __int128 scale = unit->nanoseconds;
      __int128 part = 0;
      __int128 power = 1;
      for (const char c : number.substr(dot + 1, 18)) {
        if (c == '.') return bad();
        part = part * 10 + (c - '0');
        power *= 10;
      }
      total += part * scale / power;
    }
    if (total > std::numeric_limits<std::int64_t>::max()) return bad();
  }
  return Duration(static_cast<std::int64_t>(negative ? -total : total));
}

std::string format_duration(Duration duration) {
  const std::int64_t count = duration.count();
  if (count == 0) return "0s";
  const std::string sign = count < 0 ? "-" : "";
  const std::uint64_t nanoseconds = count < 0 ? -static_cast<std::uint64_t>(count) : static_cast<std::uint64_t>(count);
  const auto cut = [&](std::int64_t unit) {
    return std::pair(static_cast<std::int64_t>(nanoseconds / static_cast<std::uint64_t>(unit)),
                     static_cast<std::int64_t>(nanoseconds % static_cast<std::uint64_t>(unit)));
  };
  if (nanoseconds < 1'000) return fmt::format("{}{}ns", sign, nanoseconds);
  if (nanoseconds < 1'000'000) return sign + trim_fraction(cut(1'000).first, cut(1'000).second, 3) + "\u00b5s";
  if (nanoseconds < 1'000'000'000) return sign + trim_fraction(cut(1'000'000).first, cut(1'000'000).second, 6) + "ms";
  const auto [seconds, rest] = cut(1'000'000'000);
  std::string text = sign;
  if (seconds >= 3600) text += fmt::format("{}h", seconds / 3600);
  if (seconds >= 60) text += fmt::format("{}m", seconds / 60 % 60);
  return text + trim_fraction(seconds % 60, rest, 9) + "s";
}

}  // namespace fairlead::kube
