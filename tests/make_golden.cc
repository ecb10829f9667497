// make_golden FOLDER: writes FOLDER/golden/v1/*.kv and FOLDER/golden-bad/*.kv with *.expected, what
// the reader says of each. tests/golden and tests/golden-bad are its output, read by a person.
#include "golden_files.hh"
#include "kv/container/reader.hh"

#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace {

void write_file(const std::string& path, const std::string& bytes) {
  kv::Output output = kv::Output::create(path, true);
  output.write(kv::as_bytes(bytes));
  output.commit();
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
  for (const auto& [name, bytes] : kv::golden::good()) write_file(good + "/" + name + ".kv", bytes);
  std::filesystem::current_path(bad);  // so that messages have no folder in them
  for (const auto& [name, bytes] : kv::golden::bad()) {
    write_file(name + ".kv", bytes);
    write_file(name + ".expected", refusal(name + ".kv") + "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    make(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_golden: %s\n", error.what());
    return 1;
  }
  return 0;
}
