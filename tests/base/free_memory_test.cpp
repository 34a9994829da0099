// The memory that is left, read from made-up copies of the system's files.

#include "base/free_memory.h"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

/// A system with 8 GiB available; tests add control groups to it.
class FreeMemory : public testing::Test {
 protected:
  void SetUp() override {
    write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n");
  }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root() / path).parent_path());
    write_file(root() / path, text);
  }
  void group2(const std::string& path, const std::string& limit, int64_t usage, int64_t inactive = 0,
              int64_t active = 0) {
    const std::string folder = "sys/fs/cgroup" + path + "/";
    write(folder + "memory.max", limit + "\n");
    write(folder + "memory.current", std::to_string(usage) + "\n");
    write(folder + "memory.stat", "anon 12345\nfile 1\ninactive_file_other 7\ninactive_file " +
                                      std::to_string(inactive) + "\nactive_file " + std::to_string(active) + "\n");
  }
  void group1(const std::string& path, int64_t limit, int64_t usage, int64_t inactive, int64_t active) {
    const std::string folder = "sys/fs/cgroup/memory" + path + "/";
    write(folder + "memory.limit_in_bytes", std::to_string(limit) + "\n");
    write(folder + "memory.usage_in_bytes", std::to_string(usage) + "\n");
    write(folder + "memory.stat", "cache 1\ninactive_file 5\ntotal_inactive_file " + std::to_string(inactive) +
                                      "\ntotal_active_file " + std::to_string(active) + "\n");
  }
  static std::string bytes(int64_t mib) { return std::to_string(mib * kMiB); }
  fs::path root() const { return folder_.path(); }
  int64_t left() const { return free_host_memory(root()); }

 private:
  test::TemporaryFolder folder_;
};

TEST_F(FreeMemory, IsTheSystemsWhereThereIsNoControlGroup) { EXPECT_EQ(left(), 8192 * kMiB); }

TEST_F(FreeMemory, IsWhatTheGroupLeavesOfItsLimitAndWhatItCanDropOfFiles) {
  write("proc/self/cgroup", "0::/user/job\n");
  group2("/user/job", bytes(4096), 1024 * kMiB, 100 * kMiB, 24 * kMiB);
  EXPECT_EQ(left(), (4096 - 1024 + 124) * kMiB);
  group2("/user/job", "max", 1024 * kMiB);
  EXPECT_EQ(left(), 8192 * kMiB);
  write("sys/fs/cgroup/user/job/memory.high", bytes(2048) + "\n");
  EXPECT_EQ(left(), 1024 * kMiB) << "beyond memory.high a group is slowed down until it stands still";
}

TEST_F(FreeMemory, IsWhatTheProcessesOwnLimitsLeave) {
  const auto limits = [&](const std::string& space, const std::string& data) {
    write("proc/self/limits",
          "Limit                     Soft Limit           Hard Limit           Units     \n"
          "Max data size             " +
              data +
              "            unlimited            bytes     \n"
              "Max stack size            8388608              unlimited            bytes     \n"
              "Max address space         " +
              space + "            unlimited            bytes     \n");
  };
  limits("unlimited", "unlimited");
  write("proc/self/status",
        "Name:\tmoe\nVmPeak:\t 9999 kB\nVmSize:\t  307200 kB\nVmRSS:\t 51200 kB\nVmData:\t 102400 kB\n");
  EXPECT_EQ(left(), 8192 * kMiB);
  limits(bytes(1000), "unlimited");
  EXPECT_EQ(left(), 700 * kMiB) << "RLIMIT_AS counts all addresses";
  limits(bytes(1000), bytes(500));
  EXPECT_EQ(left(), 400 * kMiB) << "RLIMIT_DATA counts memory of the process's own";
  EXPECT_EQ(usable_host_memory(root()), (50 + 400 - 8) * kMiB);
  limits(bytes(200), "unlimited");
  EXPECT_EQ(left(), 0) << "already above it";
  limits(bytes(10000), "unlimited");
  EXPECT_EQ(left(), 8192 * kMiB) << "the system has less";
}

TEST_F(FreeMemory, IsLimitedByTheGroupsAroundToo) {
  write("proc/self/cgroup", "0::/user/job\n");
  group2("/user/job", bytes(4096), 0);
  group2("/user", bytes(2048), 1024 * kMiB);
  EXPECT_EQ(left(), 1024 * kMiB);
  group2("/user", bytes(2048), 4096 * kMiB);
  EXPECT_EQ(left(), 0) << "more in use than the limit allows";
  group2("/user", bytes(6144), 0);
  EXPECT_EQ(left(), 4096 * kMiB);
}

TEST_F(FreeMemory, OfAContainerThatSeesItsGroupAsTheMount) {
  write("proc/self/cgroup", "0::/\n");
  group2("", bytes(512), 12 * kMiB);
  EXPECT_EQ(left(), 500 * kMiB);
}

TEST_F(FreeMemory, OfVersion1) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/docker/1\n");
  group1("", 1024 * kMiB, 600 * kMiB, 200 * kMiB, 100 * kMiB);  // /docker/1 is not seen from inside
  EXPECT_EQ(left(), (1024 - 300) * kMiB);
  group1("", 9223372036854771712, 600 * kMiB, 0, 0);  // how this version says "no limit"
  EXPECT_EQ(left(), 8192 * kMiB);
  group1("/docker/1", 700 * kMiB, 600 * kMiB, 0, 50 * kMiB);
  EXPECT_EQ(left(), 150 * kMiB);
}

TEST_F(FreeMemory, IsNotLimitedByWhatCannotBeRead) {
  write("proc/self/cgroup", "nonsense\n0::/job\n1:memory:\n");
  write("sys/fs/cgroup/job/memory.max", "\n");
  write("sys/fs/cgroup/job/memory.current", "many\n");
  EXPECT_EQ(left(), 8192 * kMiB);
  fs::remove(root() / "proc/meminfo");
  EXPECT_GT(left(), 0) << "the system's free pages";
}

TEST_F(FreeMemory, OfTheProcessItself) {
  write("proc/self/status", "Name:\tmoe\nVmHWM:\t   9999 kB\nVmRSS:\t   1234 kB\n");
  EXPECT_EQ(resident_bytes(root()), 1234 * 1024);
  EXPECT_EQ(usable_host_memory(root()), 1234 * 1024 + 8192 * kMiB - 8192 * kMiB / 50);
  EXPECT_GT(resident_bytes(), kMiB);
  EXPECT_GT(free_host_memory(), kMiB);
}

}  // namespace
}  // namespace moe
