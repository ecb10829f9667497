// Chunks of LMCache's GDS backend, with what they say of themselves.
#include "layout_fuzz.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& folder = kv::scratch_folder();
  const kv::NamedBytes file(data, size);
  if (!file.whole()) return 0;
  // The name of the chunk of tokens 0 and 1, under the seed 0.
  static const std::string link = [&] {
    const kv::KeyFamily& family = kv::key_family_by_name("lmcache");
    const std::array<std::int32_t, 2> ids = {0, 1};
    const std::string key = kv::engine_keys(family, ids, 2, "").front().key;
    const std::string number = std::to_string(std::stoull(key, nullptr, 16));
    const std::string parent = folder + "/" + number.substr(0, 2) + "/" + number.substr(2, 2);
    std::filesystem::create_directories(parent);
    return parent + "/m%401%400%40" + key + "%40bfloat16.kvcache.safetensors";
  }();
  unlink(link.c_str());
  if (symlink(file.path().c_str(), link.c_str()) != 0) return 0;
  kv::import_any("lmcache-gds", folder, 2, std::vector<std::int32_t>{0, 1});
  return 0;
}
