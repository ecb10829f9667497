// make_golden FOLDER: writes FOLDER/golden/v1/*.kv, FOLDER/golden/*.kvprofile, *.kvp and
// FOLDER/golden-bad/*.kv with *.expected, what the reader says of each. tests/golden and
// tests/golden-bad are its output, read by a person.
// make_golden --compare FOLDER: whether FOLDER holds what would be written.
#include "golden_files.hh"
#include "kv/container/reader.hh"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>

namespace {

bool g_compare = false;
int g_different = 0;

void emit(const std::string& path, const std::string& bytes) {
  if (!g_compare) {
    kv::Output output = kv::Output::create(path, true);
    output.write(kv::as_bytes(bytes));
    output.commit();
  } else if (kv::as_text(kv::Input::open(path).read_all(1u << 20)) != bytes) {
    std::fprintf(stderr, "make_golden: %s is not what the writer makes now\n", path.c_str());
    ++g_different;
  }
}

std::string refusal(const std::string& path) {
  try {
    kv::Reader reader(kv::Input::open(path));
    while (reader.next_member()) {
    }
  } catch (const kv::Error& error) {
    return error.what();
  }
  throw std::logic_error(path + " was accepted");
}

void make(const std::string& folder) {
  const std::string good = folder + "/golden/v1", bad = folder + "/golden-bad";
  std::filesystem::create_directories(good);
  std::filesystem::create_directories(bad);
  for (const auto& [name, bytes] : kv::golden::good()) emit(good + "/" + name + ".kv", bytes);
  for (const auto& files : {kv::golden::lossy(), kv::golden::clp()}) {
    for (const auto& [name, bytes] : files) {
      // Profiles beside the streams, for all files there are streams.
      emit((name.ends_with(".kv") ? good : folder + "/golden") + "/" + name, bytes);
    }
  }
  std::filesystem::current_path(bad);  // so that messages have no folder in them
  for (const auto& [name, bytes] : kv::golden::bad()) {
    emit(name + ".kv", bytes);
    emit(name + ".expected", refusal(name + ".kv") + "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  g_compare = argc == 3 && std::strcmp(argv[1], "--compare") == 0;
  if (argc != 2 && !g_compare) return 2;
  try {
    make(argv[argc - 1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_golden: %s\n", error.what());
    return 1;
  }
  return g_different == 0 ? 0 : 1;
}
