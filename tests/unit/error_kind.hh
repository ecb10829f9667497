#pragma once
// For tests: what kind of error a body ends in.

#include "kv/base/error.hh"

#include <doctest/doctest.h>

namespace kv {

template <typename F>
ErrorKind kind_of(F&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("nothing was thrown");
  return ErrorKind::kNo;
}

}  // namespace kv
