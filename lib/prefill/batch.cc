#include "kv/prefill/prefill.hh"

#include <filesystem>
#include <unordered_set>

namespace kv {

BatchCounts run_batch(Prefiller& prefiller, const std::function<std::optional<Document>()>& next,
                      const BatchOptions& options,
                      const std::function<void(std::int64_t)>& on_tokens) {
  std::error_code code;
  std::filesystem::create_directories(options.out_dir, code);
  if (code) fail(ErrorKind::kIo, "{}: {}", options.out_dir, code.message());

  BatchCounts counts;
  std::unordered_set<std::string> names;
  for (std::uint64_t number = 0; const std::optional<Document> document = next(); ++number) {
    const std::string name = file_name_of(document->id);
    if (!names.insert(name).second) {
      fail_input("{}: the id '{}' stood before; ids name the files", document->place, document->id);
    }
    if (!options.shard.takes(number)) continue;
    const std::string path = fmt::format("{}/{}.kv", options.out_dir, name);
    const bool there = std::filesystem::exists(path, code);
    if (there && !options.force && prefiller.already_done(path, *document)) {
      ++counts.skipped;
      continue;
    }
    Output output = Output::create(path, there);
    Writer writer(output);
    prefiller.write(*document, writer, on_tokens);
    output.commit();
    ++counts.written;
  }
  return counts;
}

}  // namespace kv
