#pragma once
// Files and pipes. "-" (or an empty name) is stdin or stdout; messages call it "-".

#include "kv/base/bytes.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace kv {

class Fd {
 public:
  explicit Fd(int number = -1) : number_(number) {}
  Fd(Fd&& other) noexcept : number_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd();

  int number() const { return number_; }
  int release();

 private:
  int number_;
};

// A read-only mapping of a whole regular file. A file that shrinks while mapped raises SIGBUS, so
// tools install the handler of map_guard() that turns it into exit 3 with a clear line.
class Mapping {
 public:
  Mapping() = default;
  Mapping(int fd, std::uint64_t size_bytes, const std::string& name);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  ByteView bytes() const { return bytes_; }

 private:
  ByteView bytes_;
};

// Sequential input. Throws kIo with the file's name when the system refuses.
class Input {
 public:
  static Input open(const std::string& path);

  const std::string& name() const { return name_; }
  int fd() const { return fd_.number(); }
  // Size of a regular file; nothing for a pipe or a terminal.
  std::optional<std::uint64_t> size_bytes() const { return size_bytes_; }

  // Reads until `into` is full or the end; returns the bytes read.
  std::size_t read(std::span<std::byte> into);
  // What is there now, at least one byte unless at the end (0): for lines that arrive one by one.
  std::size_t read_some(std::span<std::byte> into);
  // The rest, at most `limit_bytes`; more is kInput.
  Bytes read_all(std::uint64_t limit_bytes);
  // Whether map() shows what read() would give: a regular file of which nothing has been read.
  bool mappable() const;
  // The whole file, which must be a regular one (size_bytes() has a value).
  Mapping map() const;

 private:
  Input(Fd fd, std::string name);
  Fd fd_;
  std::string name_;
  std::optional<std::uint64_t> size_bytes_;
};

// Sequential output. A named file has no name until commit(): it is written to an unnamed inode
// (O_TMPFILE), or, where the file system has none, beside the final name, and appears under its
// name whole or not at all, also after SIGKILL. A destructor never commits.
class Output {
 public:
  // Throws kIo when `path` exists and `overwrite` is false, before anything is written.
  static Output create(const std::string& path, bool overwrite);
  // Into a descriptor that is open already; commit() only closes it.
  static Output from_fd(Fd fd, std::string name);
  Output(Output&&) noexcept;
  Output& operator=(Output&&) noexcept;
  ~Output();

  const std::string& name() const;
  std::uint64_t written_bytes() const;
  bool is_stdout() const;

  void write(ByteView bytes);
  // Gathers two pieces in one call (a frame's header and its payload).
  void write(ByteView first, ByteView second);
  // Whether it is a regular file, in which bytes can have their places.
  bool has_places() const;
  // Bytes at a place that write() does not come to; by several threads at a time. Not counted by
  // written_bytes().
  void write_at(std::uint64_t offset, ByteView bytes) const;
  // Closes, checks delayed errors, and gives the file its name. For stdout: checks only.
  void commit();

 private:
  struct State;
  explicit Output(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Installs a SIGBUS handler which says that a mapped input changed while it was read, and ends the
// process with status 3. `program` must outlive the process.
void map_guard(const char* program);

}  // namespace kv
