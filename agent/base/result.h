// SPDX-License-Identifier: Apache-2.0
// Result<T>: the one way an operation says that it failed, with the facts a user needs to act.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace fairlead {

// What kind of failure it was; decides whether to retry, what code a peer is told and how it is counted.
enum class Code {
  kInvalid,      // the input is wrong; retrying the same input cannot help
  kNotFound,     // the object does not exist
  kExists,       // the object exists already, and must not
  kConflict,     // it changed under our hands: read again, then retry
  kExhausted,    // a table, pool or limit is full
  kDenied,       // we may not
  kUnavailable,  // the peer is away or busy: retry later
  kTimeout,      // a deadline passed; the outcome is unknown
  kCancelled,    // we are stopping
  kSystem,       // a system call failed; `sys` says how
};

std::string_view to_string(Code code);

// An error: what was tried, on which object, and why it failed.
struct Error {
  Code code = Code::kSystem;
  std::string what;  // one line, names the object and the field or call; no trailing period
  int sys = 0;       // errno, or 0

  // "what: strerror" where a system call failed, else `what`.
  std::string message() const;
};

template <class T = void>
using Result = std::expected<T, Error>;

// An error of `code` with a formatted text.
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...), 0});
}

// An error from errno value `sys` (positive); maps well-known values to codes.
[[nodiscard]] std::unexpected<Error> fail_errno(int sys, std::string what);

// The same error with "context: " in front of its text: an outer caller names its object.
[[nodiscard]] std::unexpected<Error> fail_with(Error error, std::string_view context);

}  // namespace fairlead

#define FL_CONCAT_INNER(a, b) a##b
#define FL_CONCAT(a, b) FL_CONCAT_INNER(a, b)

// Returns the error of a Result expression from the enclosing function.
#define FL_TRY(expr)                                        \
  do {                                                      \
    if (auto fl_result = (expr); !fl_result) {              \
      return std::unexpected(std::move(fl_result).error()); \
    }                                                       \
  } while (false)

// FL_LET(auto x, f()): declares x from a Result, or returns its error.
#define FL_LET(decl, expr) FL_LET_INNER(FL_CONCAT(fl_result_, __LINE__), decl, expr)
#define FL_LET_INNER(result, decl, expr)                          \
  auto result = (expr);                                           \
  if (!result) return std::unexpected(std::move(result).error()); \
  decl = std::move(*result)
