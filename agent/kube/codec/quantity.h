// SPDX-License-Identifier: Apache-2.0
// Quantity: an amount with a suffix ("100m", "1.5Gi", "2e3") as an exact value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead::kube {

// A value. Exact to a billionth: finer input is rounded away from zero, larger than 2^63-1 units is cut to that, as the
// API does.
class Quantity {
 public:
  Quantity() = default;
  static Result<Quantity> parse(std::string_view text);
  static Quantity from_units(std::int64_t units) {
    return Quantity(static_cast<__int128>(units) * kNano, Format::kDecimal);
  }
  static Quantity from_milli(std::int64_t milli) {
    return Quantity(static_cast<__int128>(milli) * (kNano / 1000), Format::kDecimal);
  }

  // Whole units or thousandths, rounded up; saturated to int64.
  std::int64_t units() const { return scaled(kNano); }
  std::int64_t milli() const { return scaled(kNano / 1000); }
  // The next amount of whole thousandths, which is none smaller.
  Quantity rounded_to_milli() const;
  // The API's canonical text: no fraction, the largest suffix that keeps it exact, the kind of suffix it was read with
  // (decimal where no binary one fits). Read again it gives the same text.
  std::string str() const;

  bool operator==(const Quantity& other) const { return nano_ == other.nano_; }
  auto operator<=>(const Quantity& other) const { return nano_ <=> other.nano_; }

 private:
  enum class Format { kDecimal, kBinary, kExponent };
  static constexpr __int128 kNano = 1'000'000'000;
  Quantity(__int128 nano, Format format) : nano_(nano), format_(format) {}
  std::int64_t scaled(__int128 unit) const;

  __int128 nano_ = 0;
  Format format_ = Format::kDecimal;
};

}  // namespace fairlead::kube
