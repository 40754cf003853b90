// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that the driver keeps of memory that commands use again: data goes
 * to the memory that the program has at an address now, whatever it had there
 * before, and what is kept is charged and let go of.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"
#include "watch.h"

#define PAGES		16
#define LEN		(PAGES * NT_PAGE)
/* times until a mapping is kept, and one more */
#define TIMES		4
#define PATIENCE	10000	/* ms */

static struct nt_ring ring;
static unsigned char want[LEN];

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms && ns->lba_size &&
	       ns->lba_size <= NT_PAGE;
}

static unsigned char *memory(void *where, int flags, int fd)
{
	unsigned char *at = mmap(where, LEN, PROT_READ | PROT_WRITE,
				 flags | (where ? MAP_FIXED : 0), fd, 0);

	if (at == MAP_FAILED)
		nt_die("cannot get %u bytes: %m", LEN);
	memset(at, 0xa5, LEN);
	return at;
}

#define ANON	memory(NULL, MAP_PRIVATE | MAP_ANONYMOUS, -1)

/* A command for each page. */
static void move(struct nt_ns *ns, unsigned char *at, bool write, bool fixed)
{
	struct nvme_uring_cmd cmd;
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		nt_place_cmd(ns, 0, write, NT_PAGE, &cmd);
		cmd.cdw10 += i * (NT_PAGE / ns->lba_size);
		cmd.addr = (uintptr_t)at + i * NT_PAGE;
		cmd.data_len = NT_PAGE;
		nt_ring_put(&ring, ns->dev.fd, NVME_URING_CMD_IO,
			    fixed ? 0 : NT_UNREGISTERED, &cmd);
	}
	nt_ring_submit(&ring);
	nt_ring_land(&ring);
}

/* Blocks with new contents, and memory that was read to often. */
static void begin(struct nt_ns *ns, unsigned char *at, bool fixed)
{
	static __u64 seed;
	unsigned int i;

	nt_fill(want, LEN, ++seed);
	memcpy(at, want, LEN);
	move(ns, at, true, fixed);
	for (i = 0; i < TIMES; i++) {
		memset(at, 0, LEN);
		move(ns, at, false, fixed);
		nt_same(at, want, LEN);
	}
}

static void read_again(struct nt_ns *ns, unsigned char *at, bool fixed)
{
	memset(at, 0, LEN);
	move(ns, at, false, fixed);
	nt_same(at, want, LEN);
}

/* Other memory at the same address. */
static void run_moved(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned char *at = ANON, *old;

	begin(ns, at, false);
	/* the old pages live on elsewhere */
	old = mremap(at, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, at + (1 << 30));
	if (old == MAP_FAILED)
		nt_die("mremap: %m");
	memset(old, 0x5a, LEN);
	memory(at, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	read_again(ns, at, false);
	memset(want, 0x5a, LEN);
	nt_same(old, want, LEN);
	munmap(at, LEN);
	munmap(old, LEN);
}

/* Another buffer in the place of a registered one. */
static void run_replaced(void *arg)
{
	unsigned char *first = ANON, *second = ANON, poison[LEN];
	struct iovec iov = { first, LEN };
	struct nt_ns *ns = arg;

	nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	begin(ns, first, true);
	nt_eq(io_uring_unregister_buffers(&ring.ring), 0);
	iov.iov_base = second;
	nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	memset(first, 0x5a, LEN);
	read_again(ns, second, true);
	memset(poison, 0x5a, LEN);
	nt_same(first, poison, LEN);
	/* the same address, other memory, which is registered again */
	memory(second, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	nt_eq(io_uring_unregister_buffers(&ring.ring), 0);
	nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	read_again(ns, second, true);
	nt_eq(io_uring_unregister_buffers(&ring.ring), 0);
	munmap(first, LEN);
	munmap(second, LEN);
}

/* Memory that a child has a copy of, and changes or not. */
static void run_forked(void *arg)
{
	unsigned char *at = ANON;
	struct nt_ns *ns = arg;
	int status;
	pid_t pid;

	begin(ns, at, false);
	pid = fork();
	if (pid < 0)
		nt_die("fork: %m");
	if (!pid) {
		memset(at, 0x11, LEN);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		nt_die("waitpid: %m");
	nt_eq(status, 0);
	read_again(ns, at, false);
	pid = fork();
	if (pid < 0)
		nt_die("fork: %m");
	if (!pid) {
		/* a copy of the ring's memory is no ring */
		pause();
		_exit(0);
	}
	/* shared with the child: the device must not write to its pages */
	read_again(ns, at, false);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	read_again(ns, at, false);
	munmap(at, LEN);
}

/* Memory that could only be read when it was mapped. */
static void run_read_only(void *arg)
{
	unsigned char *at = ANON;
	struct nt_ns *ns = arg;
	unsigned int i;

	nt_fill(want, LEN, 77);
	memcpy(at, want, LEN);
	if (mprotect(at, LEN, PROT_READ))
		nt_die("mprotect: %m");
	for (i = 0; i < TIMES; i++)
		move(ns, at, true, false);
	if (mprotect(at, LEN, PROT_READ | PROT_WRITE))
		nt_die("mprotect: %m");
	for (i = 0; i < TIMES; i++)
		read_again(ns, at, false);
	munmap(at, LEN);
}

/* A file that becomes shorter, and gets other pages. */
static void run_truncated(void *arg)
{
	int fd = memfd_create("mappings", 0);
	struct nt_ns *ns = arg;
	unsigned char *at;

	if (fd < 0 || ftruncate(fd, LEN))
		nt_die("memfd: %m");
	at = memory(NULL, MAP_SHARED, fd);
	begin(ns, at, false);
	if (ftruncate(fd, 0) || ftruncate(fd, LEN))
		nt_die("ftruncate: %m");
	read_again(ns, at, false);
	munmap(at, LEN);
	close(fd);
}

/* Is a controller of that kind one whose mappings are kept? */
static bool translated(const struct nt_ns *ns)
{
	const char *ctrl = strrchr(ns->ctrl.path, '/') + 1;
	char path[128], type[16] = "";
	FILE *file;

	snprintf(path, sizeof(path),
		 "/sys/class/nvme/%s/device/iommu_group/type", ctrl);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(type, sizeof(type), file))
		type[0] = 0;
	fclose(file);
	return !strncmp(type, "DMA", 3);
}

/* No more than @kb is pinned before long. */
static void nt_pinned_falls(unsigned long kb)
{
	unsigned int ms;

	for (ms = 0; ms < PATIENCE && nt_pinned_kb() > kb; ms += 10)
		nanosleep(&(struct timespec) { 0, 10000000 }, NULL);
	nt_eq(nt_pinned_kb(), kb);
}

/* VmPin tells what is kept: until memory, file or process are gone. */
static void run_charged(void *arg)
{
	struct nt_ns *ns = arg, other = *ns;
	unsigned char *at = ANON;

	if (!translated(ns))
		nt_skip("no IOMMU translates for the controller");
	/* what the case before has let go of */
	nt_pinned_falls(0);
	other.dev.fd = open(ns->dev.path, O_RDWR);
	if (other.dev.fd < 0)
		nt_die("%s: %m", ns->dev.path);
	begin(&other, at, false);
	nt_pinned_falls(LEN / 1024);
	munmap(at, LEN);
	nt_pinned_falls(0);

	at = ANON;
	begin(&other, at, false);
	nt_pinned_falls(LEN / 1024);
	close(other.dev.fd);
	nt_pinned_falls(0);
	munmap(at, LEN);
}

static void tell(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		nt_die("%s: %m", path);
	close(fd);
}

/* Under pressure they go; what is in use is looked at twice. */
static void run_pressed(void *arg)
{
	unsigned char *at = ANON;
	struct nt_ns *ns = arg;
	unsigned int i;

	if (!translated(ns))
		nt_skip("no IOMMU translates for the controller");
	begin(ns, at, false);
	for (i = 0; i < 8; i++)
		tell("/proc/sys/vm/drop_caches", "2");
	nt_pinned_falls(0);
	read_again(ns, at, false);
	munmap(at, LEN);
	nt_pinned_falls(0);
}

static void as_user(void *arg)
{
	struct rlimit none = { 0, 0 };
	unsigned char *at = ANON;
	struct nt_ns *ns = arg;

	if (setrlimit(RLIMIT_MEMLOCK, &none))
		nt_die("setrlimit: %m");
	nt_ring_open(&ring, PAGES, 0);
	begin(ns, at, false);
	nt_eq(nt_pinned_kb(), 0);
	nt_ring_close(&ring);
}

/* Who may not lock memory has each command mapped for itself. */
static void run_no_memlock(void *arg)
{
	struct nt_ns *ns = arg;

	nt_ring_close(&ring);
	nt_as(NT_TESTER, as_user, ns);
	nt_ring_open(&ring, PAGES, 0);
}

static const struct {
	const char *name;
	void (*run)(void *arg);
} cases[] = {
	{ "moved", run_moved },
	{ "replaced", run_replaced },
	{ "forked", run_forked },
	{ "read_only", run_read_only },
	{ "truncated", run_truncated },
	{ "charged", run_charged },
	{ "pressed", run_pressed },
	{ "no_memlock", run_no_memlock },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test mappings of memory that commands use again.",
		.wants = "NVM (without metadata)",
		.fits = is_plain_nvm,
	};
	static const unsigned int setup[] = { 0, IORING_SETUP_IOPOLL };
	static const char * const modes[] = { "irq", "polled" };
	struct nt_ns *ns;
	size_t n, i, m, c;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(n * ARRAY_SIZE(setup) * ARRAY_SIZE(cases));
	for (i = 0; i < n; i++)
		for (m = 0; m < ARRAY_SIZE(setup); m++)
			for (c = 0; c < ARRAY_SIZE(cases); c++) {
				nt_ring_open(&ring, PAGES, setup[m]);
				nt_test(cases[c].run, &ns[i], "%s %s %s",
					ns[i].name, modes[m], cases[c].name);
				nt_ring_close(&ring);
			}
	return nt_end();
}
