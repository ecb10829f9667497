// checkpoint_probe MODEL: the weights as f32, for comparisons with other programs. For each, by
// name: a line of its name and shape, then the raw values in Hugging Face's order of rows.

#include "kv/base/error.hh"
#include "kv/checkpoint/checkpoint.hh"

#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    const auto checkpoint = kv::Checkpoint::open(argv[1]);
    for (const std::string& name : checkpoint->weight_names()) {
      const kv::WeightView& weight = checkpoint->weight(name);
      std::vector<float> values(static_cast<std::size_t>(weight.count()));
      checkpoint->read_f32(weight, 0, values);
      std::printf("%s %s\n", name.c_str(), fmt::format("{}", fmt::join(weight.shape, " ")).c_str());
      std::fwrite(values.data(), sizeof(float), values.size(), stdout);
    }
  } catch (const kv::Error& error) {
    std::fprintf(stderr, "checkpoint_probe: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return std::fflush(stdout) == 0 ? 0 : 4;
}
