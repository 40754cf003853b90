// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/udmabuf.h>

#include "region.h"

const struct nt_mode nt_modes[NT_MODES] = {
	{ "irq", 0 },
	{ "defer", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN },
	{ "sqpoll", IORING_SETUP_SQPOLL },
	{ "iopoll", IORING_SETUP_IOPOLL },
	{ "iopoll+defer", IORING_SETUP_IOPOLL | IORING_SETUP_SINGLE_ISSUER |
	  IORING_SETUP_DEFER_TASKRUN },
	{ "iopoll+sqpoll", IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL },
};

const char *nt_kind_name(enum nt_kind kind)
{
	static const char *const names[] = {
		"small pages", "THP", "hugetlb", "shared", "memfd", "dma-buf",
	};

	return names[kind];
}

static void *map_anonymous(size_t len, int flags)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE,
			MAP_ANONYMOUS | flags, -1, 0);

	if (at == MAP_FAILED)
		nt_die("cannot get %zu bytes: %m", len);
	return at;
}

static void *map_memfd(size_t len, int *fd)
{
	void *at;

	*fd = memfd_create("nvme-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, len) ||
	    fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK))
		nt_die("cannot make a memfd: %m");
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (at == MAP_FAILED)
		nt_die("cannot map a memfd: %m");
	return at;
}

static int make_dmabuf(int memfd, size_t len)
{
	struct udmabuf_create create = {
		.memfd = memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = len,
	};
	int fd = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), dmabuf;

	if (fd < 0)
		return -1;
	dmabuf = ioctl(fd, UDMABUF_CREATE, &create);
	if (dmabuf < 0)
		nt_die("cannot make a dma-buf: %m");
	close(fd);
	return dmabuf;
}

static void reserve_huge(unsigned long pages)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "w");

	if (!f || fprintf(f, "%lu\n", pages) < 0 || fclose(f))
		nt_die("cannot reserve huge pages: %m");
}

/* Memory of @len bytes, a multiple of 2 MiB; false if the kernel has no such. */
bool nt_area_make(enum nt_kind kind, size_t len, struct nt_area *area)
{
	size_t i, pages = len / NT_PAGE;
	unsigned char *at = NULL;
	int memfd;

	area->len = len;
	area->dmabuf = -1;
	switch (kind) {
	case NT_SMALL:
		at = map_anonymous(len, MAP_PRIVATE);
		if (madvise(at, len, MADV_NOHUGEPAGE))
			nt_die("cannot get small pages: %m");
		for (i = 0; i < pages; i++)
			at[i * 649 % pages * NT_PAGE] = 1;
		break;
	case NT_THP:
		at = map_anonymous(len + NT_HUGE, MAP_PRIVATE);
		at += -(uintptr_t)at % NT_HUGE;
		if (madvise(at, len, MADV_HUGEPAGE))
			nt_die("no transparent huge pages: %m");
		break;
	case NT_HUGETLB:
		reserve_huge(len / NT_HUGE + 2);
		at = map_anonymous(len, MAP_PRIVATE | MAP_HUGETLB);
		break;
	case NT_SHARED:
		at = map_anonymous(len, MAP_SHARED);
		break;
	default:
		at = map_memfd(len, &memfd);
		if (kind == NT_DMABUF) {
			area->dmabuf = make_dmabuf(memfd, len);
			if (area->dmabuf < 0) {
				munmap(at, len);
				close(memfd);
				return false;
			}
		}
		close(memfd);
	}
	memset(at, 0, len);
	area->at = at;
	return true;
}

void nt_area_free(struct nt_area *area)
{
	munmap(area->at, area->len);
	if (area->dmabuf >= 0)
		close(area->dmabuf);
}

static int map(int fd, struct nvme_ng_map *m)
{
	return ioctl(fd, NVME_NG_IOCTL_MAP, m) ? -errno : 0;
}

/* Map memory of the process: 0 and a handle, or a negative errno. */
int nt_map(int fd, __u32 flags, const void *addr, __u64 len, __u32 *region)
{
	struct nvme_ng_map m = {
		.size = sizeof(m),
		.flags = flags,
		.addr = (uintptr_t)addr,
		.len = len,
		.dmabuf_fd = -1,
	};
	int ret = map(fd, &m);

	*region = m.region;
	return ret;
}

/* Map all of the area but its first @skip bytes. */
int nt_map_area(int fd, const struct nt_area *area, __u64 skip, __u32 *region,
		__u32 *granule)
{
	struct nvme_ng_map m = {
		.size = sizeof(m),
		.addr = (uintptr_t)area->at + skip,
		.len = area->len - skip,
		.dmabuf_fd = area->dmabuf,
	};
	int ret;

	if (area->dmabuf >= 0) {
		m.flags = NVME_NG_MAP_DMABUF;
		m.addr = skip;
	}
	ret = map(fd, &m);
	*region = m.region;
	*granule = m.granule;
	return ret;
}

int nt_unmap(int fd, __u32 region)
{
	return ioctl(fd, NVME_NG_IOCTL_UNMAP, &region) ? -errno : 0;
}

int nt_limits(int fd, struct nvme_ng_limits *lim)
{
	memset(lim, 0, sizeof(*lim));
	lim->size = sizeof(*lim);
	return ioctl(fd, NVME_NG_IOCTL_LIMITS, lim) ? -errno : 0;
}

/* Put a command with data in regions into the ring. */
struct io_uring_sqe *nt_region_put(struct nt_ring *r, int fd, __u32 op,
				   const struct nvme_uring_cmd *cmd,
				   __u32 region, __u32 meta_region)
{
	struct io_uring_sqe *sqe = nt_ring_put(r, fd, op, NT_UNREGISTERED, cmd);
	struct nvme_ng_uring_cmd *ng = (void *)sqe->cmd;

	_Static_assert(offsetof(struct nvme_ng_uring_cmd, region) ==
		       sizeof(*cmd), "the two layouts differ");
	ng->region = region;
	ng->meta_region = meta_region;
	return sqe;
}

static size_t results_len(unsigned int entries)
{
	return sizeof(struct nvme_ng_ring_head) +
		entries * sizeof(struct nvme_ng_ring_entry);
}

/* Unmap the memory of a completion ring, whose file is closed. */
void nt_results_free(struct nt_results *results)
{
	if (results->head)
		munmap(results->head, results_len(results->entries));
}

/* Memory for a completion ring, and the ring. */
int nt_results_try(int fd, unsigned int entries, struct nt_results *results)
{
	struct nvme_ng_ring ring = {
		.size = sizeof(ring),
		.entries = entries,
		.entry_size = sizeof(*results->entry),
	};

	results->head = map_anonymous(results_len(entries), MAP_PRIVATE);
	results->entry = (void *)(results->head + 1);
	results->entries = entries;
	ring.addr = (uintptr_t)results->head;
	if (ioctl(fd, NVME_NG_IOCTL_RING, &ring)) {
		nt_results_free(results);
		return -errno;
	}
	results->ring = ring.ring;
	return 0;
}

void nt_results_make(int fd, unsigned int entries, struct nt_results *results)
{
	nt_status(nt_results_try(fd, entries, results), 0);
}

/* The next command that has ended; false if there is none. */
bool nt_results_next(struct nt_results *results, __u64 *tag, int *status)
{
	__u32 at = results->head->head;

	if (at == __atomic_load_n(&results->head->tail, __ATOMIC_ACQUIRE))
		return false;
	*tag = results->entry[at % results->entries].tag;
	*status = results->entry[at % results->entries].status;
	if (*status > 0)
		*status &= NVME_SC_MASK;
	__atomic_store_n(&results->head->head, at + 1, __ATOMIC_RELEASE);
	return true;
}

/* Put an array of commands into the ring. */
struct io_uring_sqe *nt_array_put(struct nt_ring *r, int fd,
				  const struct nvme_ng_array_cmd *cmds,
				  unsigned int nr, __u32 ring)
{
	const struct nvme_uring_cmd none = { };
	struct io_uring_sqe *sqe = nt_ring_put(r, fd, NVME_NG_URING_CMD_ARRAY,
					       NT_UNREGISTERED, &none);
	struct nvme_ng_uring_array *array = (void *)sqe->cmd;

	array->addr = (uintptr_t)cmds;
	array->nr = nr;
	array->cmd_size = sizeof(*cmds);
	array->ring = ring;
	return sqe;
}

/*
 * One command as an array, whose results go to the ring of that file or of one
 * that had its descriptor before.  False if it has to be sent by itself.
 */
static bool run_array(struct nt_ring *r, int fd,
		      const struct nvme_uring_cmd *cmd, __u32 region,
		      __u32 meta_region, int *status)
{
	static struct nt_results rings[256];
	struct nvme_ng_array_cmd array = { .tag = 1 };
	struct nt_results *results = &rings[fd % 256];
	unsigned int name;
	__u64 tag;
	int res;

	memcpy(&array.cmd, cmd, sizeof(*cmd));
	array.cmd.region = region;
	array.cmd.meta_region = meta_region;
	nt_array_put(r, fd, &array, 1, results->ring);
	nt_ring_submit(r);
	if (!nt_ring_reap(r, 60000, &name, &res))
		nt_die("opcode %02xh: no completion within 60 s", cmd->opcode);
	if (res == -ENOENT && !nt_results_try(fd, 2, results))
		return run_array(r, fd, cmd, region, meta_region, status);
	/* no more rings in this file, or not now */
	if (res == -ENOENT || res == -EAGAIN)
		return false;
	if (res != 1)
		nt_fail("an array of one command ended with %d", res);
	if (!nt_results_next(results, &tag, status) || tag != 1)
		nt_fail("opcode %02xh: the array has no result", cmd->opcode);
	return *status != -EOPNOTSUPP;
}

/* One command and its status; NVME_TEST_ARRAY has it sent as an array. */
int nt_region_run(struct nt_ring *r, int fd, __u32 op,
		  const struct nvme_uring_cmd *cmd, __u32 region,
		  __u32 meta_region)
{
	unsigned int name, sent;
	int res;

	if (op == NVME_NG_URING_CMD_IO && getenv("NVME_TEST_ARRAY") &&
	    run_array(r, fd, cmd, region, meta_region, &res))
		return res;
	sent = r->next;
	nt_region_put(r, fd, op, cmd, region, meta_region);
	nt_ring_submit(r);
	if (!nt_ring_reap(r, 60000, &name, &res))
		nt_die("opcode %02xh: no completion within 60 s", cmd->opcode);
	if (name != sent)
		nt_fail("completion of command %u, expected %u", name, sent);
	return res < 0 ? res : res & NVME_SC_MASK;
}
