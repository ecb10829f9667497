// What kveval reads, from anywhere: prompts, recipes, results, a report of before. The first byte
// says which.
#include "kv/eval/checks.hh"
#include "kv/eval/prompts.hh"
#include "kv/eval/recipe.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace {

void read_recipe(std::string_view text) {
  for (const kv::StageText& stage : kv::parse_recipe(text, {{"V", "a value"}})) {
    // What has words is words and quotes only, and so are its words, quoted.
    if (stage.words.empty()) continue;
    std::string again;
    for (const std::string& word : stage.words) {
      if (word.find('\'') != std::string::npos) return;
      again += " '" + word + "'";
    }
    if (kv::parse_recipe(again, {}).front().words != stage.words) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const kv::Fd fd(memfd_create("eval", 0));
  if (write(fd.number(), data + 1, size - 1) != static_cast<ssize_t>(size - 1)) return 0;
  const std::string path = fmt::format("/proc/self/fd/{}", fd.number());
  try {
    switch (data[0] % 4) {
      case 0:
        kv::read_eval_prompts(kv::Input::open(path));
        break;
      case 1:
        read_recipe({reinterpret_cast<const char*>(data + 1), size - 1});
        break;
      case 2:
        for (const kv::Result& result : kv::read_results(path)) kv::result_line(result);
        break;
      default:
        kv::read_baseline(path);
    }
  } catch (const kv::Error&) {
  }
  return 0;
}
