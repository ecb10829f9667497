#pragma once
// The header of NumPy's .npy files. Private to the folder.

#include "kv/base/bytes.hh"
#include "kv/container/tensor.hh"

#include <string>
#include <vector>

namespace kv {

struct NpyHeader {
  std::string descr;  // "<f4", "<i4" and so on
  std::vector<std::int64_t> shape;

  bool operator==(const NpyHeader&) const = default;
};

// Version 1.0, a multiple of 64 bytes.
Bytes npy_header(const NpyHeader& header);
// Reads versions 1 to 3 and stands then at the data, all of which must be there and nothing behind.
// Throws kInput: damaged, in Fortran's order, over 8 dimensions, more elements than bytes.
NpyHeader read_npy_header(ByteReader& reader, const std::string& name);

// "<f4" and "<f2"; bf16 and the others have no name in NumPy. Throws kUsage or kInput.
std::string npy_descr(DType dtype);
DType npy_dtype(const std::string& descr, const std::string& name);

}  // namespace kv
