// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is mapped for commands: who is charged for it, that mapping it
 * leaves it as it is and keeps nobody waiting, and how much it can be.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "region.h"
#include "watch.h"

#define GIB		(1ULL << 30)
#define HUGE_PAGES	5
#define MAPS		2000
#define FLIGHT		16

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB	(30 << 26)
#endif

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms;
}

static unsigned char *memory(size_t len)
{
	unsigned char *at = mmap(NULL, len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		nt_die("cannot get %zu bytes: %m", len);
	memset(at, NT_POISON, len);
	return at;
}

static struct nvme_uring_cmd blocks(const struct nt_ns *ns, bool write,
				    __u64 lba, __u64 addr, __u32 len)
{
	return (struct nvme_uring_cmd) {
		.opcode = write ? NVME_CMD_WRITE : NVME_CMD_READ,
		.nsid = ns->nsid,
		.addr = addr,
		.data_len = len,
		.cdw3 = len,
		.cdw10 = lba,
		.cdw11 = lba >> 32,
		.cdw12 = len / ns->lba_size - 1,
	};
}

static void plain(struct nt_ns *ns, bool write, void *data, __u32 len)
{
	struct nvme_uring_cmd cmd = blocks(ns, write, 0, (uintptr_t)data, len);

	nt_status(nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

/* Charges */

struct unmap {
	int fd;
	__u32 region;
};

static void unmap_one(void *arg)
{
	struct unmap *u = arg;

	nt_eq(nt_pinned_kb(), 0);
	nt_status(nt_unmap(u->fd, u->region), 0);
	nt_eq(nt_pinned_kb(), 0);
}

/* VmPin tells, and it is that of the process whose memory it is. */
static void run_pinned(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned char *at = memory(16 * NT_PAGE);
	unsigned long before = nt_pinned_kb();
	struct unmap u = { .fd = ns->dev.fd };
	__u32 region;
	int status;
	pid_t pid;

	nt_status(nt_map(u.fd, 0, at, 8 * NT_PAGE, &region), 0);
	nt_eq(nt_pinned_kb() - before, 8 * NT_PAGE / 1024);
	/* a byte is a page, and a page that is in two regions counts twice */
	nt_status(nt_map(u.fd, NVME_NG_MAP_READ_ONLY, at + NT_PAGE - 1, 2,
			 &u.region), 0);
	nt_eq(nt_pinned_kb() - before, 10 * NT_PAGE / 1024);
	pid = nt_fork(unmap_one, &u);
	nt_eq(waitpid(pid, &status, 0), pid);
	nt_eq(status, 0);
	nt_eq(nt_pinned_kb() - before, 8 * NT_PAGE / 1024);
	nt_status(nt_map(u.fd, 0, NULL, NT_PAGE, &u.region), -EFAULT);
	nt_eq(nt_pinned_kb() - before, 8 * NT_PAGE / 1024);
	nt_status(nt_unmap(u.fd, region), 0);
	nt_eq(nt_pinned_kb(), before);
	munmap(at, 16 * NT_PAGE);
}

struct cgroup {
	char top[64];
	char dir[128];
};

static bool cgroup_write(const char *dir, const char *file, const char *text)
{
	char path[256];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) > 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

static unsigned long long cgroup_read(const struct cgroup *cg, const char *file)
{
	unsigned long long value = 0;
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", cg->dir, file);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%llu", &value) != 1)
		nt_fail("cannot read %s: %m", path);
	fclose(f);
	return value;
}

static void cgroup_end(struct cgroup *cg)
{
	rmdir(cg->dir);
	umount(cg->top);
	rmdir(cg->top);
}

static bool cgroup_make(struct cgroup *cg)
{
	snprintf(cg->top, sizeof(cg->top), "/tmp/nvme-test-XXXXXX");
	if (!mkdtemp(cg->top))
		nt_die("cannot make a directory: %m");
	snprintf(cg->dir, sizeof(cg->dir), "%s/nvme-test", cg->top);
	if (!mount("none", cg->top, "cgroup2", 0, NULL) &&
	    cgroup_write(cg->top, "cgroup.subtree_control", "+memory") &&
	    !mkdir(cg->dir, 0755))
		return true;
	cgroup_end(cg);
	return false;
}

struct charged {
	struct nt_ns *ns;
	struct cgroup cg;
};

/* Reads to odd addresses, which the driver has to copy. */
static void bounce(void *arg)
{
	static struct nt_ring ring;
	struct charged *c = arg;
	struct nt_ns *ns = c->ns;
	__u32 len = 128 << 10;
	unsigned char *at = memory(FLIGHT * len + NT_PAGE);
	unsigned long long base, peak;
	struct nvme_uring_cmd cmd;
	char pid[16];
	int i;

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (!cgroup_write(c->cg.dir, "cgroup.procs", pid))
		nt_fail("cannot enter a cgroup: %m");
	/* what a process needs first is charged before */
	nt_ring_open(&ring, FLIGHT, nt_modes[1].setup);
	cmd = blocks(ns, false, 0, (uintptr_t)at + 1, len);
	nt_ring_run(&ring, ns->dev.fd, NVME_URING_CMD_IO, NT_UNREGISTERED, &cmd);
	base = cgroup_read(&c->cg, "memory.peak");
	for (i = 0; i < FLIGHT; i++) {
		cmd = blocks(ns, false, 0, (uintptr_t)at + 1 + i * len, len);
		nt_ring_put(&ring, ns->dev.fd, NVME_URING_CMD_IO,
			    NT_UNREGISTERED, &cmd);
	}
	/* all are in memory until the ring is asked for completions */
	nt_ring_submit(&ring);
	peak = cgroup_read(&c->cg, "memory.peak");
	nt_ring_land(&ring);
	nt_ring_close(&ring);
	if (peak - base < (FLIGHT - 2) * (unsigned long long)len)
		nt_fail("%d commands of %u bytes: %llu bytes are charged",
			FLIGHT, len, peak - base);
}

static void run_bounce_charged(void *arg)
{
	struct charged c = { .ns = arg };
	struct nvme_ng_limits lim;
	pid_t pid;
	int status;

	nt_status(nt_limits(c.ns->dev.fd, &lim), 0);
	if (lim.dma_alignment < 4)
		nt_skip("the controller takes any address");
	if (access("/proc/cgroups", F_OK) || !cgroup_make(&c.cg))
		nt_skip("no memory controller for cgroups");
	pid = nt_fork(bounce, &c);
	if (waitpid(pid, &status, 0) != pid)
		nt_die("waitpid: %m");
	cgroup_end(&c.cg);
	nt_eq(status, 0);
}

/* Mapping leaves memory alone */

struct writer {
	__u64 *at;
	unsigned long lost;
	bool stop;
};

static void *keep_writing(void *arg)
{
	struct writer *w = arg;
	__u64 mine = 0, got;

	__atomic_store_n(w->at, mine, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		got = __atomic_load_n(w->at, __ATOMIC_RELAXED);
		if (got != mine)
			w->lost++;
		mine = got + 1;
		__atomic_store_n(w->at, mine, __ATOMIC_RELAXED);
	}
	return NULL;
}

/*
 * What is written into a page while a part of it is mapped stays, also where
 * that fails because the kernel would have to copy it.
 */
static void run_untouched(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned char *at = memory(NT_PAGE);
	struct writer w = { .at = (void *)at };
	pthread_t thread;
	int i, ret = 0;
	__u32 region;

	if (pthread_create(&thread, NULL, keep_writing, &w))
		nt_die("cannot make a thread");
	for (i = 0; i < MAPS && (!ret || ret == -EOPNOTSUPP); i++) {
		ret = nt_map(ns->dev.fd, 0, at + 2048, 512, &region);
		if (!ret)
			ret = nt_unmap(ns->dev.fd, region);
	}
	__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	munmap(at, NT_PAGE);
	if (ret != -EOPNOTSUPP)
		nt_status(ret, 0);
	nt_eq(w.lost, 0);
}

/* Memory that a file system writes back is not for devices to write to. */
static void run_written_back(void *arg)
{
	struct nt_ns *ns = arg;
	char path[64];
	unsigned char *at;
	__u32 region;
	int fd;

	/* the block device has pages of memory, too */
	snprintf(path, sizeof(path), "/dev/nvme%s",
		 strrchr(ns->dev.path, '/') + strlen("/ng"));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		nt_skip("cannot open %s", path);
	at = mmap(NULL, 4 * NT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		nt_fail("cannot map %s: %m", path);
	/* with pages that are there already, and with others */
	if (madvise(at, NT_PAGE, MADV_POPULATE_READ))
		nt_fail("cannot read %s: %m", path);
	nt_status(nt_map(ns->dev.fd, 0, at, NT_PAGE, &region), -EFAULT);
	nt_status(nt_map(ns->dev.fd, 0, at + 2 * NT_PAGE, NT_PAGE, &region),
		  -EFAULT);
	nt_status(nt_map(ns->dev.fd, NVME_NG_MAP_READ_ONLY, at, 4 * NT_PAGE,
			 &region), 0);
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	munmap(at, 4 * NT_PAGE);
	at = mmap(NULL, NT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	nt_status(nt_map(ns->dev.fd, 0, at, NT_PAGE, &region), 0);
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	munmap(at, NT_PAGE);
	close(fd);
}

/* Nobody waits for another's memory */

struct map_thread {
	pthread_t thread;
	int fd;
	struct nvme_ng_map *m;
	int ret;
};

static void *map_once(void *arg)
{
	struct map_thread *t = arg;

	t->ret = ioctl(t->fd, NVME_NG_IOCTL_MAP, t->m) ? -errno : 0;
	return NULL;
}

static void *map_and_unmap(void *arg)
{
	struct map_thread *t = arg;

	map_once(t);
	if (!t->ret)
		t->ret = nt_unmap(t->fd, t->m->region);
	return NULL;
}

static bool joined(struct map_thread *t)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	return !pthread_timedjoin_np(t->thread, NULL, &end);
}

static int write_protect(int uffd, void *at, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)at, NT_PAGE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
}

/* A descriptor that tells of writes to the page, which wait. */
static int stop_writes(void *at)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)at, NT_PAGE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (uffd < 0)
		nt_skip("no userfaultfd: %m");
	if (ioctl(uffd, UFFDIO_API, &api) ||
	    ioctl(uffd, UFFDIO_REGISTER, &reg) || write_protect(uffd, at, true))
		nt_skip("no userfaultfd for writes: %m");
	return uffd;
}

/* A program keeps the kernel waiting where it would tell the handle. */
static void run_stuck(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned char *at = memory(2 * NT_PAGE);
	struct nvme_ng_map m = {
		.size = sizeof(m),
		.addr = (uintptr_t)at + NT_PAGE,
		.len = NT_PAGE,
		.dmabuf_fd = -1,
	}, other = m;
	struct map_thread stuck = { .fd = ns->dev.fd, .m = (void *)at };
	struct map_thread free = { .fd = ns->dev.fd, .m = &other };
	struct pollfd poll_fd = { .events = POLLIN };
	bool waits, done;

	memcpy(at, &m, sizeof(m));
	poll_fd.fd = stop_writes(at);
	if (pthread_create(&stuck.thread, NULL, map_once, &stuck))
		nt_die("cannot make a thread");
	waits = poll(&poll_fd, 1, 10000) == 1;
	if (pthread_create(&free.thread, NULL, map_and_unmap, &free))
		nt_die("cannot make a thread");
	done = joined(&free);
	write_protect(poll_fd.fd, at, false);
	close(poll_fd.fd);
	if (!done)
		pthread_join(free.thread, NULL);
	pthread_join(stuck.thread, NULL);
	nt_eq(waits, true);
	nt_eq(done, true);
	nt_status(free.ret, 0);
	nt_status(stuck.ret, 0);
	nt_status(nt_unmap(ns->dev.fd, stuck.m->region), 0);
	munmap(at, 2 * NT_PAGE);
}

/* Large */

static __u64 frame(void *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;

	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    (uintptr_t)at / NT_PAGE * sizeof(entry)) !=
	    sizeof(entry))
		nt_die("cannot read pagemap: %m");
	close(fd);
	return entry & ((1ULL << 55) - 1);
}

static void span(struct nt_ns *ns, struct nt_ring *ring, __u32 region,
		 unsigned char *at, __u64 offset)
{
	unsigned char want[8192], got[8192];
	struct nvme_uring_cmd cmd;

	nt_fill(want, sizeof(want), offset);
	memcpy(at + offset, want, sizeof(want));
	cmd = blocks(ns, true, 0, offset, sizeof(want));
	nt_status(nt_region_run(ring, ns->dev.fd, NVME_NG_URING_CMD_IO, &cmd,
				region, 0), 0);
	memset(got, 0, sizeof(got));
	plain(ns, false, got, sizeof(got));
	nt_same(got, want, sizeof(want));
	memset(at + offset, NT_POISON, sizeof(want));
	cmd = blocks(ns, false, 0, offset, sizeof(want));
	nt_status(nt_region_run(ring, ns->dev.fd, NVME_NG_URING_CMD_IO, &cmd,
				region, 0), 0);
	nt_same(at + offset, want, sizeof(want));
}

static int by_frame(const void *a, const void *b)
{
	__u64 x = frame(*(unsigned char *const *)a);
	__u64 y = frame(*(unsigned char *const *)b);

	return x < y ? -1 : x > y;
}

/* Huge pages that the kernel has in one piece, or NULL. */
static unsigned char *one_piece(void)
{
	unsigned char *page[HUGE_PAGES], *at;
	int i;

	/* where they are to be, at a multiple of their size */
	at = mmap(NULL, (HUGE_PAGES + 1) * GIB, PROT_NONE, MAP_PRIVATE |
		  MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		nt_die("cannot map memory: %m");
	at += -(uintptr_t)at % GIB;
	for (i = 0; i < HUGE_PAGES; i++) {
		page[i] = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_SHARED |
			       MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB, -1,
			       0);
		if (page[i] == MAP_FAILED)
			nt_skip("no %d huge pages of 1 GiB", HUGE_PAGES);
		page[i][0] = 1;
	}
	qsort(page, HUGE_PAGES, sizeof(*page), by_frame);
	for (i = 0; i < HUGE_PAGES; i++)
		if (mremap(page[i], GIB, GIB, MREMAP_MAYMOVE | MREMAP_FIXED,
			   at + i * GIB) == MAP_FAILED)
			nt_die("mremap: %m");
	for (i = 1; i < HUGE_PAGES; i++) {
		if (frame(at + i * GIB) == frame(at) + i * GIB / NT_PAGE)
			continue;
		munmap(at, HUGE_PAGES * GIB);
		return NULL;
	}
	return at;
}

/* More memory in one piece than 32 bits tell. */
static void run_large(void *arg)
{
	static const __u64 more[] = { 0, NT_PAGE, 2 * NT_PAGE, GIB };
	static struct nt_ring ring;
	struct nt_ns *ns = arg;
	unsigned char *at = one_piece();
	__u32 region;
	size_t i;

	if (!at)
		nt_skip("the huge pages are not in one piece");
	nt_ring_open(&ring, 8, 0);
	for (i = 0; i < ARRAY_SIZE(more); i++) {
		nt_status(nt_map(ns->dev.fd, 0, at, 4 * GIB + more[i], &region),
			  0);
		span(ns, &ring, region, at, 0);
		span(ns, &ring, region, at, GIB - NT_PAGE);
		span(ns, &ring, region, at, 4 * GIB + more[i] - 8192);
		nt_status(nt_unmap(ns->dev.fd, region), 0);
	}
	/* not where a page begins, either */
	nt_status(nt_map(ns->dev.fd, 0, at + 512, 5 * GIB - 512, &region), 0);
	span(ns, &ring, region, at + 512, 4 * GIB - 512 - NT_PAGE);
	nt_status(nt_unmap(ns->dev.fd, region), 0);
	nt_ring_close(&ring);
	munmap(at, HUGE_PAGES * GIB);
}

/* The largest transfer from pages that are no neighbours. */
static void run_longest(void *arg)
{
	struct nt_ns *ns = arg;
	struct nvme_ng_limits lim;
	unsigned char *want;
	struct nt_area area;
	__u32 max, len, i;
	static const __u32 pages[] = { 512, 513, 514, 1023, 1024, 1025, -1U };

	nt_status(nt_limits(ns->dev.fd, &lim), 0);
	max = lim.max_transfer / NT_PAGE;
	nt_area_make(NT_SMALL, (lim.max_transfer + 2 * NT_HUGE) & -NT_HUGE,
		     &area);
	want = malloc(lim.max_transfer);
	if (!want)
		nt_die("not enough memory");
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		if (pages[i] > max && pages[i] != -1U)
			continue;
		len = (pages[i] == -1U ? max : pages[i]) * NT_PAGE;
		nt_fill(want, len, len);
		memcpy(area.at, want, len);
		plain(ns, true, area.at, len);
		memset(area.at, NT_POISON, len + NT_PAGE);
		/* with a first and a last page that are not whole */
		plain(ns, false, area.at + 512, len);
		nt_same(area.at + 512, want, len);
		nt_eq(area.at[len + 512], NT_POISON);
	}
	nt_area_free(&area);
	free(want);
}

static const struct one {
	const char *name;
	void (*run)(void *arg);
} cases[] = {
	{ "pinned", run_pinned },
	{ "bounce_charged", run_bounce_charged },
	{ "untouched", run_untouched },
	{ "written_back", run_written_back },
	{ "stuck", run_stuck },
	{ "large", run_large },
	{ "longest", run_longest },
};

static const char *only = "";

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

/* Run the cases that are wanted, or count them. */
static unsigned int each(struct nt_ns *ns, size_t n, bool really)
{
	unsigned int nr = 0;
	char name[128];
	size_t i, c;

	for (i = 0; i < n; i++) {
		for (c = 0; c < ARRAY_SIZE(cases); c++) {
			snprintf(name, sizeof(name), "%s %s", ns[i].name,
				 cases[c].name);
			if (!strstr(name, only))
				continue;
			nr++;
			if (really)
				nt_test(cases[c].run, &ns[i], "%s", name);
		}
	}
	return nr;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test memory that is mapped for commands.",
		.wants = "NVM (without metadata)",
		.fits = is_plain_nvm,
		.usage = "  --only=TEXT  only cases with TEXT in the name",
		.option = option,
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(each(ns, n, false));
	each(ns, n, true);
	return nt_end();
}
