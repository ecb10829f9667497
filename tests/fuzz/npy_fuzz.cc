// Arrays of NumPy: the first byte says which of a folder's files the rest is; the others are sound.
#include "layout_fuzz.hh"

#include <array>
#include <fstream>

namespace {

using File = std::pair<const char*, std::string>;

std::string array(const char* descr, const char* shape, std::size_t bytes) {
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n", descr, shape);
  std::string file("\x93NUMPY\1\0", 8);
  file += static_cast<char>(header.size());
  file += '\0';
  return file + header + std::string(bytes, '\0');
}

std::array<File, 4> sound() {
  return {
      {{"000_k.npy", array("<f4", "(2, 1, 4)", 32)},
       {"000_v.npy", array("<f2", "(2, 1, 2)", 8)},
       {"tokens.npy", array("<i8", "(2,)", 16)},
       {"meta.json",
        R"({"format":"kvtools npy 1","rope_applied":true,"token_count":2,"first_position":0})"}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::array<File, 4> files = sound();
  const std::string& folder = kv::scratch_folder();
  for (std::size_t i = 0; i < files.size(); ++i) {
    std::ofstream file(folder + "/" + files[i].first, std::ios::binary | std::ios::trunc);
    if (i == data[0] % files.size()) {
      file.write(reinterpret_cast<const char*>(data + 1), static_cast<std::streamsize>(size - 1));
    } else {
      file << files[i].second;
    }
  }
  kv::import_any("npy", folder);
  return 0;
}
