// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/quantity.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace fairlead::kube {
namespace {

constexpr __int128 kLimit = static_cast<__int128>(std::numeric_limits<std::int64_t>::max()) * 1'000'000'000;

struct Suffix {
  std::string_view text;
  int power;  // of ten, or of 1024
};
constexpr std::array<Suffix, 9> kDecimal{
    {{"n", -9}, {"u", -6}, {"m", -3}, {"", 0}, {"k", 3}, {"M", 6}, {"G", 9}, {"T", 12}, {"P", 15}}};
constexpr Suffix kExa{"E", 18};
constexpr std::array<Suffix, 6> kBinary{{{"Ki", 1}, {"Mi", 2}, {"Gi", 3}, {"Ti", 4}, {"Pi", 5}, {"Ei", 6}}};

std::string decimal(__int128 value) {  // fmt's own __int128 support depends on its build
  std::string digits;
  const bool negative = value < 0;
  auto rest = negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  do {
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
    rest /= 10;
  } while (rest != 0);
  if (negative) digits += '-';
  return {digits.rbegin(), digits.rend()};
}

}  // namespace

Result<Quantity> Quantity::parse(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return fail(Code::kInvalid, "\"{}\" is no quantity: {}", text, why);
  };
  std::string_view rest = text;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const std::size_t end = std::min(rest.find_first_not_of("0123456789."), rest.size());
  const std::string_view number = rest.substr(0, end);
  const std::string_view suffix = rest.substr(end);
  const std::size_t dot = number.find('.');
  if (number.find_first_of("0123456789") == number.npos ||
      number.find('.', dot == number.npos ? dot : dot + 1) != number.npos) {
    return bad("it needs a decimal number");
  }

  Format format = Format::kDecimal;
  int tens = 0;
  int binary = 0;
  if (const auto* at = std::ranges::find(kDecimal, suffix, &Suffix::text); at != kDecimal.end()) {
    tens = at->power;
  } else if (suffix == kExa.text) {
    tens = kExa.power;
  } else if (const auto* two = std::ranges::find(kBinary, suffix, &Suffix::text); two != kBinary.end()) {
    binary = two->power;
    format = Format::kBinary;
  } else if (suffix.front() == 'e' || suffix.front() == 'E') {
    std::string_view digits = suffix.substr(1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), tens);
    if (error != std::errc{} || stop != digits.data() + digits.size()) return bad("its exponent is no integer");
    format = Format::kExponent;
  } else {
    return bad("unknown suffix \"" + std::string(suffix) + "\"");
  }

  // Digits into nano-units: each digit's weight is 10^(place + tens + 9), times 1024^binary at the end. What is below
  // one nano-unit only rounds; what is above the limit saturates.
  std::string digits(number.substr(0, dot));
  const std::string_view fraction = dot == number.npos ? std::string_view{} : number.substr(dot + 1);
  int shift = std::clamp(tens, -1000, 1000) + 9;
  bool lost = false;
  bool over = false;
  __int128 value = 0;
  const auto append = [&](int digit) {
    if (value > kLimit / 10) {
      over = over || value > 0;
      return;
    }
    value = value * 10 + digit;
  };
  if (binary == 0) {
    digits += fraction;
    shift -= static_cast<int>(std::min<std::size_t>(fraction.size(), 1'000'000));
    const std::size_t keep =
        shift >= 0 ? digits.size()
                   : digits.size() - std::min<std::size_t>(digits.size(), static_cast<std::size_t>(-shift));
    for (std::size_t i = 0; i < digits.size(); ++i) {
      if (i < keep) {
        append(digits[i] - '0');
      } else {
        lost = lost || digits[i] != '0';
      }
    }
    for (int i = 0; i < shift && value != 0; ++i) append(0);
  } else {
    // mantissa × 1024^binary in nano-units: the whole part is exact, of the fraction 18 digits count.
    const __int128 unit = static_cast<__int128>(1) << (10 * binary);
    for (const char c : digits) append(c - '0');
    over = over || value > kLimit / kNano / unit;
    if (!over) value *= unit * kNano;
    __int128 part = 0;  // fraction × 10^18
    for (std::size_t i = 0; i < 18; ++i) part = part * 10 + (i < fraction.size() ? fraction[i] - '0' : 0);
    lost = fraction.size() > 18 && fraction.substr(18).find_first_not_of('0') != fraction.npos;
    // part / 10^18 × unit × 10^9 = part × unit / 10^9, in two steps so that it fits into 128 bits.
    const __int128 scaled = part / kNano * unit + part % kNano * unit / kNano;
    lost = lost || part % kNano * unit % kNano != 0;
    if (!over) value += scaled;
  }
  if (lost) ++value;
  if (over || value > kLimit) value = kLimit;
  return Quantity(negative ? -value : value, format);
}

std::int64_t Quantity::scaled(__int128 unit) const {
  const __int128 up = nano_ / unit + (nano_ % unit > 0 ? 1 : 0);
  using Limits = std::numeric_limits<std::int64_t>;
  return static_cast<std::int64_t>(std::clamp<__int128>(up, Limits::min(), Limits::max()));
}

Quantity Quantity::rounded_to_milli() const {
  constexpr __int128 kMilli = kNano / 1000;
  return {(nano_ / kMilli + (nano_ % kMilli > 0 ? 1 : 0)) * kMilli, format_};
}

std::string Quantity::str() const {
  if (nano_ == 0) return "0";
  if (format_ == Format::kBinary && nano_ % (1024 * kNano) == 0) {
    __int128 value = nano_ / kNano;
    std::string_view suffix;
    for (const Suffix& next : kBinary) {
      if (value % 1024 != 0) break;
      value /= 1024;
      suffix = next.text;
    }
    return decimal(value) + std::string(suffix);
  }
  __int128 value = nano_;
  int power = -9;
  while (value % 1000 == 0 && power < 18) {
    value /= 1000;
    power += 3;
  }
  if (format_ == Format::kExponent) return power == 0 ? decimal(value) : decimal(value) + "e" + std::to_string(power);
  const auto* at = std::ranges::find(kDecimal, power, &Suffix::power);
  return decimal(value) + std::string(at == kDecimal.end() ? kExa.text : at->text);
}

}  // namespace fairlead::kube
