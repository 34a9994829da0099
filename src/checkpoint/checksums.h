#pragma once
/// checksums.json of a checkpoint: the CRC-32 of each of its files, so that a byte that changed on the disk is noticed.
///
///   {"format_version": 1, "crc32": {"config.json": "0a1b2c3d", "model.safetensors": "89abcdef", ...}}
///
/// A folder without it (an older checkpoint, a model of another program) is read without this check.

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace moe {

inline constexpr const char* kChecksumFile = "checksums.json";

/// A file and the checksum of the bytes that were given to its writer.
struct WrittenFile {
  std::string name;  ///< without folders
  uint32_t crc32;
};

/// Writes FOLDER/checksums.json: `written`, and every other file of the folder as it is on the disk.
void save_checksums(const fs::path& folder, const std::vector<WrittenFile>& written);

/// Compares files of FOLDER with its checksums.json: `names`, or all that it lists. A file that it does not list is not
/// compared. Throws an Error that names the first file that is missing or differs. Reads each file once a process, as
/// long as its size and its time of change stay.
void check_checksums(const fs::path& folder);
void check_checksums(const fs::path& folder, const std::vector<fs::path>& files);

}  // namespace moe
