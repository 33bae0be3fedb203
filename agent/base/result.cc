// SPDX-License-Identifier: Apache-2.0
#include "agent/base/result.h"

#include <cerrno>
#include <cstring>

namespace fairlead {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::kInvalid:
      return "invalid";
    case Code::kNotFound:
      return "not-found";
    case Code::kExists:
      return "exists";
    case Code::kConflict:
      return "conflict";
    case Code::kExhausted:
      return "exhausted";
    case Code::kDenied:
      return "denied";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kTimeout:
      return "timeout";
    case Code::kCancelled:
      return "cancelled";
    case Code::kSystem:
      return "system";
  }
  return "unknown";
}

std::string Error::message() const {
  if (sys == 0) return what;
  return fmt::format("{}: {}", what, std::strerror(sys));
}

std::unexpected<Error> fail_errno(int sys, std::string what) {
  Code code = Code::kSystem;
  switch (sys) {
    case ENOENT:
    case ESRCH:
    case ENODEV:
      code = Code::kNotFound;
      break;
    case EEXIST:
      code = Code::kExists;
      break;
    case E2BIG:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
      code = Code::kExhausted;
      break;
    case EPERM:
    case EACCES:
      code = Code::kDenied;
      break;
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      code = Code::kUnavailable;
      break;
    case ETIMEDOUT:
      code = Code::kTimeout;
      break;
    default:
      break;
  }
  return std::unexpected(Error{code, std::move(what), sys});
}

std::unexpected<Error> fail_with(Error error, std::string_view context) {
  error.what = fmt::format("{}: {}", context, error.what);
  return std::unexpected(std::move(error));
}

}  // namespace fairlead
