// SPDX-License-Identifier: GPL-2.0
/*
 * The bounds of the driver: at each the value, one byte less and one more. And
 * what is counted exactly: pins, dirty pages, the direction of a mapping.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define AREA		(3 * NT_HUGE)
#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/nvme_edges"
/* entries of a page of a PRP list, the last of which may name another page */
#define LIST		512
#define SEGMENTS	1024
/* data blocks, or half of the PRP entries, that a queue has ready for a command */
#define FEW		16
#define PLACE		3

struct edge {
	struct nt_ns *ns;
	const struct nt_mode *mode;
	struct nvme_ng_limits lim;
	__u32 region;		/* all of the area */
	__u32 meta_region;	/* all of @meta */
};

static struct nt_ring ring;
static struct nt_area area, meta;
static unsigned char *wire;

static __u32 whole_units(const struct nt_ns *ns, __u64 len)
{
	__u32 unit = nt_place_unit(ns);

	return len < unit ? unit : len / unit * unit;
}

/* The largest transfer that a place has room for. */
static __u32 place_max(struct nt_ns *ns)
{
	__u32 max = nt_place_max(ns), room = AREA - NT_PAGE;

	/* the capacity of the test bed's zones */
	if (ns->csi == NVME_CSI_ZNS && room > 3 << 20)
		room = 3 << 20;
	return whole_units(ns, max < room ? max : room);
}

/* A command for @len bytes of the device, its metadata at the start of @meta */
static void command(struct edge *e, bool write, __u32 len, bool region,
		    struct nvme_uring_cmd *cmd)
{
	nt_place_cmd(e->ns, PLACE, write, len, cmd);
	cmd->data_len = len;
	if (cmd->metadata_len)
		cmd->metadata = region ? 0 : (uintptr_t)meta.at;
}

static int send_region(struct edge *e, __u32 op,
		       const struct nvme_uring_cmd *cmd, __u32 region)
{
	return nt_region_run(&ring, e->ns->dev.fd, op, cmd, region,
			     cmd->metadata_len ? e->meta_region : 0);
}

static int send_plain(struct edge *e, __u32 op, int buf,
		      const struct nvme_uring_cmd *cmd)
{
	return nt_ring_run(&ring, e->ns->dev.fd, op, buf, cmd);
}

enum nt_form {
	PLAIN,
	PLAIN_VEC,
	REGISTERED,
	REGISTERED_VEC,
	REGION,
	REGION_VEC,
	FORMS,
};

static const char *const form_names[FORMS] = {
	"plain", "plain vector", "registered", "registered vector", "region",
	"region vector",
};

/*
 * Read what @want bytes of the device hold into @len bytes at @at of the area,
 * all of which is region @e->region and the registered buffer. Of a vector the
 * first segment ends with the first page.
 */
static int read_form(struct edge *e, enum nt_form form, __u32 want, __u32 at,
		     __u32 len)
{
	bool region = form >= REGION, vec = form & 1;
	__u32 first = NT_PAGE - at % NT_PAGE;
	struct nvme_ng_segment seg[2];
	struct nvme_uring_cmd cmd;
	struct iovec iov[2];

	if (first > len)
		first = len;
	command(e, false, want, region, &cmd);
	cmd.data_len = vec ? 2 : len;
	if (region) {
		seg[0] = (struct nvme_ng_segment) { e->region, first, at };
		seg[1] = (struct nvme_ng_segment) { e->region, len - first,
						    at + first };
		cmd.addr = vec ? (uintptr_t)seg : at;
		return send_region(e, vec ? NVME_NG_URING_CMD_IO_VEC :
				   NVME_NG_URING_CMD_IO, &cmd,
				   vec ? 0 : e->region);
	}
	iov[0] = (struct iovec) { area.at + at, first };
	iov[1] = (struct iovec) { area.at + at + first, len - first };
	cmd.addr = (uintptr_t)(vec ? (void *)iov : area.at + at);
	return send_plain(e, vec ? NVME_URING_CMD_IO_VEC : NVME_URING_CMD_IO,
			  form >= REGISTERED ? 0 : NT_UNREGISTERED, &cmd);
}

static void register_area(void)
{
	struct iovec all = { area.at, AREA };

	nt_eq(-io_uring_register_buffers(&ring.ring, &all, 1), 0);
}

static void put_data(struct edge *e, __u32 len)
{
	struct nvme_uring_cmd cmd;

	nt_place_fill(e->ns, PLACE, wire, len, len);
	nt_place_reset(e->ns, PLACE);
	command(e, true, len, false, &cmd);
	cmd.addr = (uintptr_t)wire;
	nt_status(nt_dev_ioctl(e->ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL),
		  0);
}

/* Read @want bytes of the device into @len bytes at @at of the region. */
static int read_region(struct edge *e, __u32 region, __u64 at, __u32 want,
		       __u32 len)
{
	struct nvme_uring_cmd cmd;

	command(e, false, want, true, &cmd);
	cmd.addr = at;
	cmd.data_len = len;
	return send_region(e, NVME_NG_URING_CMD_IO, &cmd, region);
}

/* The same by a segment before which one of 0 bytes is passed over. */
static int read_segment(struct edge *e, __u32 region, __u64 at, __u32 want,
			__u32 len)
{
	struct nvme_ng_segment seg[] = {
		{ .region = -1U, .offset = -1ULL },
		{ .region = region, .offset = at, .len = len },
	};
	struct nvme_uring_cmd cmd;

	command(e, false, want, true, &cmd);
	cmd.addr = (uintptr_t)seg;
	cmd.data_len = ARRAY_SIZE(seg);
	return send_region(e, NVME_NG_URING_CMD_IO_VEC, &cmd, 0);
}

static int (*const readers[])(struct edge *e, __u32 region, __u64 at,
			      __u32 want, __u32 len) = {
	read_region, read_segment,
};

/*
 * Regions that begin and end inside of pages, and the last byte of each: three
 * bytes are left over where the controller wants dwords.
 */
static void region_end(struct edge *e)
{
	static const struct {
		__u32 skip;
		__u32 len;
	} shapes[] = {
		{ 0, 2 * NT_PAGE }, { 4, 3 * NT_PAGE - 5 }, { 0, 4095 },
		{ 4092, 8195 }, { 516, NT_HUGE + 7 },
		{ 2048, 513 * NT_PAGE + 3 },
	};
	__u32 unit = nt_place_unit(e->ns), region, align = e->lim.dma_alignment;
	size_t i, r;

	put_data(e, unit);
	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		__u64 len = shapes[i].len, last, at = shapes[i].skip;

		if (len < unit)
			continue;
		nt_status(nt_map(e->ns->dev.fd, 0, area.at + at, len, &region),
			  0);
		for (r = 0; r < ARRAY_SIZE(readers); r++) {
			/* where a unit ends with the region, or just before */
			last = (len - unit) / align * align;
			memset(area.at + at, NT_POISON, len + 8);
			nt_status(readers[r](e, region, last, unit, unit), 0);
			nt_same(area.at + at + last, wire, unit);
			nt_eq(area.at[at + last + unit], NT_POISON);
			/* the next place that the controller could take */
			nt_status(readers[r](e, region, last + align, unit,
					     unit), -EFAULT);
			/* one byte more than there is from there */
			nt_status(readers[r](e, region, last, unit,
					     len - last + 1), -EFAULT);
			nt_status(readers[r](e, region, last, unit,
					     len - last - 1 < unit ? unit :
					     len - last - 1), 0);
			/* from the start, more than all of it */
			if (len + 1 <= e->lim.max_transfer)
				nt_status(readers[r](e, region, 0, unit,
						     len + 1), -EFAULT);
			nt_status(readers[r](e, region, len, unit, unit),
				  -EFAULT);
			nt_status(readers[r](e, region, -(__u64)unit, unit,
					     unit), -EFAULT);
		}
		nt_status(nt_unmap(e->ns->dev.fd, region), 0);
	}
}

/* A command that moves all that the controller takes, in each form. */
static void max_transfer(struct edge *e)
{
	__u32 max = e->lim.max_transfer, len = place_max(e->ns);
	int form, more, got, want;

	if (max > AREA - NT_PAGE)
		nt_skip("the controller takes %u bytes", max);
	put_data(e, len);
	register_area();
	for (form = 0; form < FORMS; form++) {
		for (more = -1; more <= 1; more++) {
			/* the buffer may be longer than the data */
			__u32 data = more < 0 ? whole_units(e->ns, len - 1) :
						len;

			want = more > 0 ? -EINVAL : 0;
			memset(area.at, NT_POISON, len + 4);
			/* nor may all of an SGL's descriptor be too much */
			got = read_form(e, form, data, 0, more < 0 &&
					e->lim.features & NVME_NG_F_SGL ?
					data : max + more);
			if (got != want)
				nt_fail("%s, limit %+d: got %d, expected %d",
					form_names[form], more, got, want);
			if (!more)
				nt_same(area.at, wire, len);
			if (more > 0)
				nt_eq(area.at[0], NT_POISON);
		}
	}
}

/* As many segments as there may be, all of data where there are SGLs. */
static void segments(struct edge *e)
{
	static struct nvme_ng_segment seg[SEGMENTS + 1];
	bool sgl = e->lim.features & NVME_NG_F_SGL;
	__u32 len = whole_units(e->ns, 16 * SEGMENTS), i, each;
	struct nvme_uring_cmd cmd;
	static const int counts[] = {
		1, FEW - 1, FEW, FEW + 1,
		SEGMENTS - 1, SEGMENTS, SEGMENTS + 1,
	};
	size_t c;

	nt_eq(e->lim.max_segments, SEGMENTS);
	put_data(e, len);
	for (c = 0; c < ARRAY_SIZE(counts); c++) {
		int n = counts[c], want = n > SEGMENTS ? -EINVAL : 0;
		__u32 left = len;

		memset(seg, 0, sizeof(seg));
		memset(area.at, NT_POISON, AREA);
		each = len / n / 4 * 4;
		for (i = 0; i < (__u32)n; i++) {
			seg[i].region = e->region;
			/* pages of their own, in descending order */
			seg[i].offset = sgl ? (SEGMENTS - i) * NT_PAGE : 0;
			seg[i].len = sgl ? each : 0;
			if (i == (__u32)n - 1)
				seg[i].len = left;
			left -= seg[i].len;
		}
		command(e, false, len, true, &cmd);
		cmd.addr = (uintptr_t)seg;
		cmd.data_len = n;
		nt_status(send_region(e, NVME_NG_URING_CMD_IO_VEC, &cmd, 0),
			  want);
		for (i = 0, left = 0; !want && i < (__u32)n; i++) {
			nt_same(area.at + seg[i].offset, wire + left,
				seg[i].len);
			left += seg[i].len;
		}
	}
	/* an array that ends a byte too early */
	{
		unsigned char *end = mmap(NULL, 2 * NT_PAGE,
					  PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct nvme_ng_segment one = { .region = e->region,
					       .len = len };

		if (end == MAP_FAILED || munmap(end + NT_PAGE, NT_PAGE))
			nt_fail("mmap: %m");
		end += NT_PAGE - sizeof(one);
		memcpy(end, &one, sizeof(one));
		command(e, false, len, true, &cmd);
		cmd.addr = (uintptr_t)end;
		cmd.data_len = 1;
		nt_status(send_region(e, NVME_NG_URING_CMD_IO_VEC, &cmd, 0), 0);
		memmove(end + 1, end, sizeof(one) - 1);
		cmd.addr++;
		nt_status(send_region(e, NVME_NG_URING_CMD_IO_VEC, &cmd, 0),
			  -EFAULT);
		munmap(end + sizeof(one) - NT_PAGE, NT_PAGE);
	}
}

/* Less than the command moves must be refused, by whomever. */
static void too_short(struct edge *e)
{
	bool sgl = e->lim.features & NVME_NG_F_SGL;
	__u32 len = whole_units(e->ns, 3 * NT_PAGE), less;
	int form, got;

	if (e->ns->csi == NVME_CSI_ECHO)
		nt_skip("nobody knows what a command moves");
	put_data(e, len);
	register_area();
	for (form = 0; form < FORMS; form++) {
		for (less = 0; less <= 4; less++) {
			if (sgl && less % e->lim.dma_alignment)
				continue;
			memset(area.at, NT_POISON, len + 4);
			got = read_form(e, form, len, 0, len - less);
			/*
			 * The controller refuses an SGL that is too short; a
			 * region in pieces is described by PRPs all the same.
			 */
			if (!less ? got : got != -EINVAL && (!sgl || got <= 0))
				nt_fail("%s, %u bytes less: got %d",
					form_names[form], less, got);
			if (less)
				nt_eq(area.at[len - less], NT_POISON);
		}
	}
}

/* Separate metadata: its length, its end, its address, in each form. */
static void metadata(struct edge *e)
{
	__u32 ms = e->ns->ms, blocks = 3, need = blocks * ms, region;
	__u32 len = blocks * e->ns->lba_size, max = e->lim.max_metadata;
	struct nvme_uring_cmd cmd;
	struct nvme_ng_segment seg = { e->region, len, 0 };
	int fd = e->ns->dev.fd, vec;

	if (!max)
		nt_skip("no separate metadata");
	put_data(e, len);
	/* ends one byte after what a multiple of 4 can begin */
	nt_status(nt_map(fd, 0, meta.at, NT_PAGE - 1, &region), 0);
	for (vec = 0; vec < 2; vec++) {
		__u32 op = vec ? NVME_NG_URING_CMD_IO_VEC :
				 NVME_NG_URING_CMD_IO;

		command(e, false, len, true, &cmd);
		cmd.addr = vec ? (uintptr_t)&seg : 0;
		cmd.data_len = vec ? 1 : len;
#define META() nt_region_run(&ring, fd, op, &cmd, vec ? 0 : e->region, region)
		nt_status(META(), 0);
		cmd.metadata_len = need - 1;
		nt_status(META(), -EINVAL);
		cmd.metadata_len = need + 1;
		nt_status(META(), 0);
		cmd.metadata_len = max;
		if (max < NT_PAGE) {
			nt_status(META(), 0);
			cmd.metadata_len = max + 1;
			nt_status(META(), -EINVAL);
		}
		cmd.metadata_len = need;
		for (cmd.metadata = 1; cmd.metadata < 9; cmd.metadata++)
			nt_status(META(), cmd.metadata % 4 ? -EINVAL : 0);
		cmd.metadata = NT_PAGE - 4 - need;
		memset(meta.at, NT_POISON, NT_PAGE);
		nt_status(META(), 0);
		nt_eq(meta.at[cmd.metadata + need], NT_POISON);
		nt_eq(meta.at[cmd.metadata - 1], NT_POISON);
		cmd.metadata += 4;
		nt_status(META(), -EFAULT);
		cmd.metadata = -4ULL;
		nt_status(META(), -EFAULT);
#undef META
		/* of the program: any address, but no byte less */
		command(e, false, len, false, &cmd);
		cmd.addr = (uintptr_t)area.at;
		op = NVME_URING_CMD_IO;
		for (cmd.metadata++; cmd.metadata % 4; cmd.metadata++)
			nt_status(send_plain(e, op, NT_UNREGISTERED, &cmd), 0);
		memset(meta.at, NT_POISON, NT_PAGE);
		nt_status(send_plain(e, op, NT_UNREGISTERED, &cmd), 0);
		nt_eq(meta.at[4 + need], NT_POISON);
		cmd.metadata_len = need - 1;
		nt_status(send_plain(e, op, NT_UNREGISTERED, &cmd), -EINVAL);
		cmd.metadata_len = max;
		nt_status(send_plain(e, op, NT_UNREGISTERED, &cmd), 0);
		cmd.metadata_len = max + 1;
		nt_status(send_plain(e, op, NT_UNREGISTERED, &cmd), -EINVAL);
	}
	nt_status(nt_unmap(fd, region), 0);
}

/*
 * Data that fills a page of a PRP list but one entry, all of it, and one entry
 * more, from the start of a page and from its middle.
 */
static void list_ends(struct edge *e)
{
	static const __u32 pages[] = {
		2, 3, 2 * FEW - 1, 2 * FEW, 2 * FEW + 1,
		LIST - 1, LIST, LIST + 1, LIST + 2, LIST + 3,
		2 * LIST - 1, 2 * LIST, 2 * LIST + 1,
	};
	__u32 max = place_max(e->ns), shift, len;
	unsigned int tested = 0;
	int form;
	size_t i;

	put_data(e, max);
	register_area();
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		for (shift = 0; shift <= 2048; shift += 2048) {
			len = whole_units(e->ns, pages[i] * NT_PAGE - shift);
			for (form = 0; form < FORMS && len <= max; form++) {
				memset(area.at, NT_POISON, shift + len + 4);
				nt_status(read_form(e, form, len, shift, len),
					  0);
				if (shift)
					nt_eq(area.at[shift - 1], NT_POISON);
				nt_same(area.at + shift, wire, len);
				nt_eq(area.at[shift + len], NT_POISON);
				tested++;
			}
		}
	}
	nt_eq(!tested, false);
}

/* Exactly the pages that a region touches are pinned, until it is unmapped. */
static void pins(struct edge *e)
{
	static const struct {
		__u32 skip;
		__u32 len;
		unsigned int pages;
	} shapes[] = {
		{ 0, 1, 1 }, { 0, 4095, 1 }, { 0, 4096, 1 }, { 0, 4097, 2 },
		{ 4095, 1, 1 }, { 4095, 2, 2 }, { 4095, 4098, 3 },
		{ 1, 4096, 2 }, { 1, 4095, 1 }, { 100, 512 * 4096, 513 },
		{ 0, 512 * 4096, 512 }, { 0, 513 * 4096, 513 },
		{ 4095, 511 * 4096 + 1, 512 }, { 4095, 511 * 4096 + 2, 513 },
	};
	unsigned long before = nt_pins();
	int fd = e->ns->dev.fd, ro;
	__u32 region;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		for (ro = 0; ro < 2; ro++) {
			nt_status(nt_map(fd, ro ? NVME_NG_MAP_READ_ONLY : 0,
					 area.at + shapes[i].skip,
					 shapes[i].len, &region), 0);
			if (nt_pins() - before != shapes[i].pages)
				nt_fail("%u bytes at %u: %lu pages pinned, not %u",
					shapes[i].len, shapes[i].skip,
					nt_pins() - before, shapes[i].pages);
			nt_status(nt_unmap(fd, region), 0);
			nt_eq(nt_pins(), before);
		}
}

/* Pages of segments that meet in a page, and of commands that fail. */
static void pins_of_commands(struct edge *e)
{
	__u32 len = whole_units(e->ns, 2 * NT_PAGE);
	struct iovec iov[] = {
		{ area.at, 512 }, { area.at + 512, 512 },
		{ area.at + 1024, NT_PAGE }, { NULL, 0 },
		{ area.at + 1024 + NT_PAGE, len - 1024 - NT_PAGE },
	};
	unsigned long before;
	struct nvme_uring_cmd cmd;
	int i;

	put_data(e, len);
	before = nt_pins();
	for (i = 0; i < 8; i++) {
		command(e, false, len, false, &cmd);
		cmd.addr = (uintptr_t)iov;
		cmd.data_len = ARRAY_SIZE(iov);
		nt_status(send_plain(e, NVME_URING_CMD_IO_VEC, NT_UNREGISTERED,
				     &cmd), 0);
		nt_same(area.at, wire, len);
		/* the last segment is nowhere */
		iov[4].iov_base = NULL;
		nt_status(send_plain(e, NVME_URING_CMD_IO_VEC, NT_UNREGISTERED,
				     &cmd), -EFAULT);
		/* or too long */
		iov[4].iov_base = area.at + 1024 + NT_PAGE;
		iov[4].iov_len = e->lim.max_transfer;
		nt_status(send_plain(e, NVME_URING_CMD_IO_VEC, NT_UNREGISTERED,
				     &cmd), -EINVAL);
		iov[4].iov_len = len - 1024 - NT_PAGE;
		/* a page, and part of two */
		command(e, false, whole_units(e->ns, NT_PAGE), false, &cmd);
		cmd.addr = (uintptr_t)area.at;
		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &cmd), 0);
		cmd.addr += 512;
		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &cmd), 0);
	}
	for (i = 0; i < 100 && nt_pins() != before; i++)
		usleep(10000);
	nt_eq(nt_pins(), before);
}

/* Is the page at this address dirty, as the kernel counts it? */
static bool is_dirty(const void *at)
{
	__u64 entry = 0, flags = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    (uintptr_t)at / NT_PAGE * sizeof(entry)) !=
	    sizeof(entry))
		nt_skip("no pagemap");
	close(fd);
	fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	/* present, and its page frame number */
	if (!(entry >> 63) || fd < 0 ||
	    pread(fd, &flags, sizeof(flags),
		  (entry & ((1ULL << 55) - 1)) * sizeof(flags)) !=
	    sizeof(flags))
		nt_skip("no page flags");
	close(fd);
	return flags >> 4 & 1;
}

/*
 * What the device wrote is dirty: nothing else would bring it to where the
 * page belongs.
 */
static void dirty(struct edge *e)
{
	__u32 len = whole_units(e->ns, 3 * NT_PAGE), region;
	struct nvme_uring_cmd cmd;
	unsigned char *at;
	int how, memfd;

	put_data(e, len);
	for (how = 0; how < 5; how++) {
		memfd = memfd_create("nvme-test", MFD_CLOEXEC);
		if (memfd < 0 || ftruncate(memfd, AREA))
			nt_fail("memfd: %m");
		at = mmap(NULL, 4 * NT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  memfd, 0);
		if (at == MAP_FAILED || madvise(at, 4 * NT_PAGE,
						MADV_POPULATE_READ))
			nt_fail("mmap: %m");
		if (is_dirty(at) || is_dirty(at + 2 * NT_PAGE))
			nt_skip("pages are dirty from the start");
		/* one page is a case of its own */
		if (how == 4)
			len = nt_place_unit(e->ns) > NT_PAGE ?
				nt_place_unit(e->ns) :
				whole_units(e->ns, NT_PAGE);
		command(e, false, len, how == 3, &cmd);
		cmd.addr = (uintptr_t)at;
		switch (how) {
		case 0:
		case 4:
			nt_status(send_plain(e, NVME_URING_CMD_IO,
					     NT_UNREGISTERED, &cmd), 0);
			break;
		case 1:
			nt_status(nt_dev_ioctl(e->ns->dev.fd,
					       NVME_IOCTL_IO64_CMD, &cmd,
					       NULL), 0);
			break;
		case 2:
			/* copied: no controller takes this address as it is */
			cmd.addr += 1;
			nt_status(send_plain(e, NVME_URING_CMD_IO,
					     NT_UNREGISTERED, &cmd), 0);
			break;
		default:
			nt_status(nt_map(e->ns->dev.fd, 0, at, 4 * NT_PAGE,
					 &region), 0);
			cmd.addr = 0;
			nt_status(send_region(e, NVME_NG_URING_CMD_IO, &cmd,
					      region), 0);
			nt_status(nt_unmap(e->ns->dev.fd, region), 0);
		}
		nt_same(at + (how == 2), wire, len);
		if (!is_dirty(at) || !is_dirty(at + len - 1))
			nt_fail("way %d: what was written is not dirty", how);
		munmap(at, 4 * NT_PAGE);
		close(memfd);
	}
}

/*
 * What the device only read is not: its page may be of a file that the program
 * must not write to, or of a file system that cannot.
 */
static void clean(struct edge *e)
{
	__u32 lens[] = { whole_units(e->ns, NT_PAGE),
			 whole_units(e->ns, 3 * NT_PAGE) };
	struct nvme_uring_cmd cmd;
	unsigned char *at;
	size_t i;
	int memfd;

	if (e->ns->csi != NVME_CSI_NVM || e->ns->pi)
		nt_skip("it does not depend on what is written");
	for (i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		memfd = memfd_create("nvme-test", MFD_CLOEXEC);
		if (memfd < 0 || ftruncate(memfd, AREA))
			nt_fail("memfd: %m");
		at = mmap(NULL, 4 * NT_PAGE, PROT_READ, MAP_SHARED, memfd, 0);
		if (at == MAP_FAILED || madvise(at, 4 * NT_PAGE,
						MADV_POPULATE_READ))
			nt_fail("mmap: %m");
		if (is_dirty(at))
			nt_skip("pages are dirty from the start");
		command(e, true, lens[i / 2], false, &cmd);
		cmd.addr = (uintptr_t)at;
		nt_status(i % 2 ? nt_dev_ioctl(e->ns->dev.fd,
					       NVME_IOCTL_IO64_CMD, &cmd, NULL) :
			  send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &cmd), 0);
		if (is_dirty(at))
			nt_fail("%u bytes: what was only read is dirty",
				lens[i / 2]);
		munmap(at, 4 * NT_PAGE);
		close(memfd);
	}
}

static bool tell(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	bool ok = file && fputs(text, file) >= 0;

	return file && !fclose(file) && ok;
}

static unsigned int traced(const char *what)
{
	FILE *file = fopen(INSTANCE "/trace", "r");
	static char line[65536];
	unsigned int n = 0;

	while (file && fgets(line, sizeof(line), file))
		n += !!strstr(line, what);
	if (file)
		fclose(file);
	return n;
}

/* The device may read a region that is read-only, and no more. */
static void direction(struct edge *e)
{
	static const char event[] = INSTANCE "/events/dma/dma_map_sg/enable";
	unsigned int to, both, ro;
	__u32 region;

	if (access(TRACING "/instances", F_OK))
		mount("tracefs", TRACING, "tracefs", 0, NULL);
	mkdir(INSTANCE, 0700);
	if (!tell(event, "1")) {
		rmdir(INSTANCE);
		nt_skip("this kernel does not trace mappings");
	}
	for (ro = 0; ro < 2; ro++) {
		if (!tell(INSTANCE "/trace", ""))
			nt_fail("cannot clear the trace: %m");
		nt_status(nt_map(e->ns->dev.fd, ro ? NVME_NG_MAP_READ_ONLY : 0,
				 area.at, 4 * NT_PAGE, &region), 0);
		to = traced("dir=TO_DEVICE");
		both = traced("dir=BIDIRECTIONAL");
		nt_status(nt_unmap(e->ns->dev.fd, region), 0);
		nt_note("%u mappings to the device, %u both ways", to, both);
		nt_eq(to, ro);
		nt_eq(both, !ro);
	}
	tell(event, "0");
	rmdir(INSTANCE);
}

/* What is told of a command's length, by the table in access.rst. */
static void lengths(struct edge *e)
{
	__u32 unit = nt_place_unit(e->ns);
	const struct {
		int csi;
		__u8 opcode;
		__u32 cdw10, cdw11, cdw12;
		__u32 len;
	} known[] = {
		{ -1, 0x0d, 0, 0, 0, 16 },
		{ -1, 0x0e, 7, 0, 0, 32 },
		{ -1, 0x11, 0, 0, 0, 16 },
		{ -1, 0x15, 0, 0, 0, 8 },
		{ NVME_CSI_NVM, NVME_CMD_DSM, 2, 0, 0, 48 },
		{ NVME_CSI_ZNS, NVME_CMD_DSM, 0, 0, 0, 16 },
		{ NVME_CSI_NVM, NVME_CMD_WRITE, 0, -1U, 2, 3 * unit },
		{ NVME_CSI_NVM, NVME_CMD_READ, 0, -1U, 0, unit },
		{ NVME_CSI_NVM, NVME_CMD_COMPARE, 0, -1U, 1, 2 * unit },
		{ NVME_CSI_ZNS, NVME_CMD_ZONE_APPEND, 0, -1U, 2, 3 * unit },
		{ NVME_CSI_ZNS, NVME_CMD_ZONE_MGMT_RECV, 0, 0, 15, 64 },
		{ NVME_CSI_KV, NVME_CMD_KV_STORE, 100, 255, 0, 100 },
		{ NVME_CSI_KV, NVME_CMD_KV_RETRIEVE, 1000, 255, 0, 1000 },
		{ NVME_CSI_KV, NVME_CMD_KV_LIST, 5000, 0, 0, 5000 },
	};
	size_t i;
	int less;

	if (e->lim.features & NVME_NG_F_SGL)
		nt_skip("the controller is told the length");
	for (i = 0; i < ARRAY_SIZE(known); i++) {
		if ((known[i].csi >= 0 && known[i].csi != e->ns->csi) ||
		    (e->lim.max_metadata && known[i].len % unit == 0))
			continue;
		for (less = 0; less < 2; less++) {
			struct nvme_uring_cmd cmd = {
				.opcode = known[i].opcode,
				.nsid = e->ns->nsid,
				.cdw3 = known[i].len,
				.cdw10 = known[i].cdw10,
				.cdw11 = known[i].cdw11,
				.cdw12 = known[i].cdw12,
				.data_len = known[i].len - less,
			};
			int region, got;

			/* its own field for what the test bed is told */
			if (e->ns->csi == NVME_CSI_KV) {
				cmd.cdw3 = 0;
				cmd.cdw12 = known[i].len;
			}
			for (region = 0; region < 2; region++) {
				cmd.addr = region ? 0 : (uintptr_t)area.at;
				got = region ?
					send_region(e, NVME_NG_URING_CMD_IO,
						    &cmd, e->region) :
					send_plain(e, NVME_URING_CMD_IO,
						   NT_UNREGISTERED, &cmd);
				if (less ? got != -EINVAL : got < 0)
					nt_fail("opcode %02xh, %u bytes: got %d",
						known[i].opcode, cmd.data_len,
						got);
			}
		}
	}
}

/* Fields that no command may have. */
static void fields(struct edge *e)
{
	__u32 len = whole_units(e->ns, 1);
	struct nvme_uring_cmd good, bad, admin = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.cdw10 = NVME_ID_CNS_CTRL,
		.addr = (uintptr_t)area.at,
		.data_len = NT_PAGE,
	};
	struct nt_dev ctrl = e->ns->ctrl;
	int fd = e->ns->dev.fd;
	__u8 bit;

	put_data(e, len);
	command(e, false, len, false, &good);
	good.addr = (uintptr_t)area.at;
	nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED, &good), 0);
	for (bit = 1; bit; bit <<= 1) {
		bad = good;
		bad.flags = bit;
		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &bad), -EINVAL);
		nt_status(nt_dev_ioctl(fd, NVME_IOCTL_IO64_CMD, &bad, NULL),
			  -EINVAL);
		nt_status(nt_dev_ioctl(fd, NVME_IOCTL_IO_CMD, &bad, NULL),
			  -EINVAL);
	}
	bad = good;
	for (bad.nsid = good.nsid - 1; bad.nsid <= good.nsid + 1; bad.nsid++) {
		int want = bad.nsid == good.nsid ? 0 : -EINVAL;

		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &bad), want);
		nt_status(nt_dev_ioctl(fd, NVME_IOCTL_IO64_CMD, &bad, NULL),
			  want);
		nt_status(nt_dev_ioctl(fd, NVME_IOCTL_IO_CMD, &bad, NULL),
			  want);
	}
	/* no admin command has separate metadata */
	nt_status(nt_dev_ioctl(ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &admin, NULL),
		  0);
	admin.metadata = (uintptr_t)meta.at;
	admin.metadata_len = 8;
	nt_status(nt_dev_ioctl(ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &admin, NULL),
		  -EINVAL);
	nt_status(nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &admin, NULL),
		  -EINVAL);
	if (!e->mode->setup)
		nt_status(nt_ring_run(&ring, ctrl.fd, NVME_URING_CMD_ADMIN,
				      NT_UNREGISTERED, &admin), -EINVAL);
}

/* Where data is copied, what the device did not write is not the kernel's. */
static void bounce(struct edge *e)
{
	const __u32 len = 5000, some = 10;
	unsigned char *at = area.at + 1;
	struct nvme_uring_cmd cmd;
	__u32 i;
	int n;

	if (e->ns->csi != NVME_CSI_KV)
		nt_skip("all of a buffer is written");
	for (n = 0; n < 16; n++) {
		/* what may be left in pages of the kernel */
		memset(at, 0x77, len);
		command(e, true, len, false, &cmd);
		cmd.addr = (uintptr_t)at;
		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &cmd), 0);
		command(e, true, some, false, &cmd);
		cmd.addr = (uintptr_t)at;
		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &cmd), 0);
		memset(at, NT_POISON, len);
		command(e, false, len, false, &cmd);
		cmd.addr = (uintptr_t)at;
		nt_status(send_plain(e, NVME_URING_CMD_IO, NT_UNREGISTERED,
				     &cmd), 0);
		for (i = 0; i < len; i++)
			if (at[i] != (i < some ? 0x77 : at[some]) ||
			    (i >= some && at[i] && at[i] != NT_POISON))
				nt_fail("byte %u is %02x", i, at[i]);
	}
}

/* Where segments meet: at the ends of pages, unless there are SGLs. */
static void seams(struct edge *e)
{
	static const struct {
		__u32 at[2];
		__u32 first;
		bool prp;
	} shapes[] = {
		{ { 3584, 8192 }, 512, true },
		{ { 0, 8192 }, 4096, true },
		{ { 3584, 8196 }, 512, false },
		{ { 3580, 8192 }, 512, false },
		{ { 0, 8192 }, 512, false },
		{ { 512, 8192 }, 512, false },
		{ { 0, 4096 + 512 }, 4096, false },
	};
	bool sgl = e->lim.features & NVME_NG_F_SGL;
	__u32 len = whole_units(e->ns, 2 * NT_PAGE);
	struct nvme_uring_cmd cmd;
	size_t i;

	put_data(e, len);
	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		__u32 first = shapes[i].first;
		struct nvme_ng_segment seg[] = {
			{ e->region, first, shapes[i].at[0] },
			{ e->region, len - first, shapes[i].at[1] },
		};
		int want = sgl || shapes[i].prp ? 0 : -EINVAL;

		memset(area.at, NT_POISON, 8192 + 2 * len);
		command(e, false, len, true, &cmd);
		cmd.addr = (uintptr_t)seg;
		cmd.data_len = 2;
		nt_status(send_region(e, NVME_NG_URING_CMD_IO_VEC, &cmd, 0),
			  want);
		if (want)
			continue;
		nt_same(area.at + seg[0].offset, wire, first);
		nt_same(area.at + seg[1].offset, wire + first, len - first);
	}
}

/* The longest region, and the fields around it. */
static void map_fields(struct edge *e)
{
	int fd = e->ns->dev.fd;
	__u64 most = 1ULL << 40;
	__u32 region;

	/* beyond the memory of the program, but not of what there may be */
	nt_eq(nt_map(fd, 0, area.at, most, &region) == -EINVAL, false);
	nt_status(nt_map(fd, 0, area.at, most + 1, &region), -EINVAL);
	nt_status(nt_map(fd, 0, area.at, 0, &region), -EINVAL);
	nt_status(nt_map(fd, 0, area.at, 1, &region), 0);
	nt_status(nt_unmap(fd, region), 0);
}

/* a rule of the test bed's devices, feature C0h */
struct rule {
	__le32 nsid;
	__u8 admin;
	__u8 opcode;
	__le16 status;
	__le32 delay_ms;
	__le32 count;
};

/* Let reads take as long as that, 0 for no time. */
static void delay_reads(struct nt_ns *ns, unsigned int ms)
{
	static struct rule rules[256];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)rules,
		.data_len = sizeof(rules),
		.cdw10 = 0xc0,
	};

	memset(rules, 0, sizeof(rules));
	if (ms) {
		rules[0].nsid = htole32(ns->nsid);
		rules[0].opcode = NVME_CMD_READ;
		rules[0].delay_ms = htole32(ms);
	}
	nt_status(nt_dev_ioctl(ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

/* Of a namespace that the rule can be made for. */
static void need_delays(struct edge *e)
{
	if (!e->ns->testbed || e->ns->csi != NVME_CSI_NVM ||
	    !strcmp(e->ns->name, "NVMENG-A/7"))
		nt_skip("one controller of the test bed is needed");
}

struct flow {
	struct edge *e;
	unsigned int sent;
	unsigned int ended;
	bool stop;
};

/* how many commands of a flow are in flight, and how long each is */
#define FLIGHT		48
#define FLIGHT_MS	1000

/*
 * Never without a command in flight, until told: each takes FLIGHT_MS, and a
 * new one is sent every few.
 */
static void *flow(void *arg)
{
	struct flow *f = arg;
	struct edge *e = f->e;
	struct nvme_uring_cmd cmd;
	unsigned int name;
	bool stop = false;
	int res;

	command(e, false, whole_units(e->ns, NT_PAGE), true, &cmd);
	while (!stop || ring.flying) {
		stop = __atomic_load_n(&f->stop, __ATOMIC_RELAXED);
		if (!stop && ring.flying < FLIGHT) {
			nt_region_put(&ring, e->ns->dev.fd,
				      NVME_NG_URING_CMD_IO, &cmd, e->region,
				      cmd.metadata_len ? e->meta_region : 0);
			if (io_uring_submit(&ring.ring) < 0)
				nt_die("io_uring_submit");
			__atomic_add_fetch(&f->sent, 1, __ATOMIC_RELAXED);
		}
		while (nt_ring_reap(&ring, 5, &name, &res)) {
			if (res)
				nt_die("command %u: %d", name, res);
			__atomic_add_fetch(&f->ended, 1, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static void start_flow(struct flow *f, pthread_t *thread)
{
	delay_reads(f->e->ns, FLIGHT_MS);
	if (pthread_create(thread, NULL, flow, f))
		nt_fail("pthread_create: %m");
	while (__atomic_load_n(&f->sent, __ATOMIC_RELAXED) < 16)
		usleep(1000);
}

static void end_flow(struct flow *f, pthread_t thread)
{
	__atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	delay_reads(f->e->ns, 0);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The scheduler of the block device, whose change freezes the queue. */
static bool scheduler(struct nt_ns *ns, char *path, size_t size)
{
	const char *node = strrchr(ns->dev.path, '/') + 1;
	unsigned int ctrl, nsid;

	if (sscanf(node, "ng%un%u", &ctrl, &nsid) != 2)
		return false;
	snprintf(path, size, "/sys/block/nvme%un%u/queue/scheduler", ctrl,
		 nsid);
	return !access(path, W_OK);
}

/* A freeze ends although commands never do. */
static void freeze(struct edge *e)
{
	struct flow f = { .e = e };
	unsigned int ended;
	pthread_t thread;
	char path[128];

	need_delays(e);
	if (!scheduler(e->ns, path, sizeof(path)))
		nt_skip("no queue that can be frozen from here");
	put_data(e, whole_units(e->ns, NT_PAGE));
	start_flow(&f, &thread);
	ended = __atomic_load_n(&f.ended, __ATOMIC_RELAXED);
	/* a flow that never lets the freeze end makes this last */
	alarm(60);
	if (!tell(path, "mq-deadline"))
		nt_note("%s: %m", path);
	alarm(0);
	ended = __atomic_load_n(&f.ended, __ATOMIC_RELAXED) - ended;
	end_flow(&f, thread);
	if (!tell(path, "none"))
		nt_note("%s: %m", path);
	/* no more than were in flight when it began */
	nt_note("%u commands ended during the freeze", ended);
	if (ended > FLIGHT + FLIGHT / 2)
		nt_fail("commands were sent on during the freeze");
}

/* A freeze ends although nobody polls for the commands. */
static void freeze_unpolled(struct edge *e)
{
	struct nvme_uring_cmd cmd;
	char path[128];
	unsigned int i;
	double start;

	if (e->ns->csi != NVME_CSI_NVM || !scheduler(e->ns, path, sizeof(path)))
		nt_skip("no queue that can be frozen from here");
	put_data(e, whole_units(e->ns, 4096));
	command(e, false, whole_units(e->ns, 4096), true, &cmd);
	for (i = 0; i < 8; i++)
		nt_region_put(&ring, e->ns->dev.fd, NVME_NG_URING_CMD_IO, &cmd,
			      e->region, cmd.metadata_len ? e->meta_region : 0);
	nt_ring_submit(&ring);
	start = seconds();
	alarm(60);
	if (!tell(path, "mq-deadline") || !tell(path, "none"))
		nt_note("%s: %m", path);
	alarm(0);
	nt_note("two freezes in %.1f s", seconds() - start);
	nt_ring_land(&ring);
}

/* A region that is unmapped is let go although commands never end. */
static void unmap_in_flow(struct edge *e)
{
	struct flow f = { .e = e };
	unsigned long before;
	pthread_t thread;
	__u32 region;
	bool pinned;
	int i;

	need_delays(e);
	put_data(e, whole_units(e->ns, NT_PAGE));
	before = nt_pins();
	start_flow(&f, &thread);
	nt_status(nt_map(e->ns->dev.fd, 0, area.at, NT_HUGE, &region), 0);
	nt_eq(nt_pins(), before + NT_HUGE / NT_PAGE);
	nt_status(nt_unmap(e->ns->dev.fd, region), 0);
	for (i = 0; i < 1000 && nt_pins() != before; i++)
		usleep(10000);
	pinned = nt_pins() != before;
	end_flow(&f, thread);
	if (pinned)
		nt_fail("pages stay pinned while commands come and go");
}

static const struct {
	const char *name;
	void (*run)(struct edge *e);
	bool once;		/* not for each mode */
} cases[] = {
	{ "region_end", region_end, false },
	{ "max_transfer", max_transfer, false },
	{ "segments", segments, false },
	{ "too_short", too_short, false },
	{ "metadata", metadata, false },
	{ "list_ends", list_ends, false },
	{ "pins", pins, true },
	{ "pins_of_commands", pins_of_commands, false },
	{ "dirty", dirty, false },
	{ "clean", clean, false },
	{ "direction", direction, true },
	{ "map_fields", map_fields, true },
	{ "lengths", lengths, false },
	{ "fields", fields, false },
	{ "bounce", bounce, false },
	{ "seams", seams, false },
	{ "freeze", freeze, false },
	{ "freeze_unpolled", freeze_unpolled, false },
	{ "unmap_in_flow", unmap_in_flow, false },
};

static const struct nt_mode *const modes[] = { &nt_modes[0], &nt_modes[3] };

struct one_run {
	size_t i;
	struct edge e;
};

static void run_one(void *arg)
{
	struct one_run *r = arg;
	struct edge *e = &r->e;
	int fd = e->ns->dev.fd;

	nt_status(nt_limits(fd, &e->lim), 0);
	nt_status(nt_map(fd, 0, area.at, AREA, &e->region), 0);
	nt_status(nt_map(fd, 0, meta.at, NT_HUGE, &e->meta_region), 0);
	cases[r->i].run(e);
	nt_ring_quiet(&ring);
	/* at once: what a ring has ends some time after the ring */
	io_uring_unregister_buffers(&ring.ring);
	nt_status(nt_unmap(fd, e->region), 0);
	nt_status(nt_unmap(fd, e->meta_region), 0);
}

static const char *only = "";

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

/* Go through the cases of all namespaces, or only count them. */
static unsigned int go(struct nt_ns *ns, size_t n, bool run)
{
	unsigned int count = 0;
	size_t i, c, m;
	char name[128];

	for (i = 0; i < n; i++)
		for (m = 0; m < ARRAY_SIZE(modes); m++)
			for (c = 0; c < ARRAY_SIZE(cases); c++) {
				struct nt_ns mine = ns[i];
				struct one_run r = { c, {
					.ns = &mine, .mode = modes[m] } };

				snprintf(name, sizeof(name), "%s %s %s",
					 ns[i].name, modes[m]->name,
					 cases[c].name);
				if ((cases[c].once && m) || !strstr(name, only))
					continue;
				count++;
				if (!run)
					continue;
				/* regions and what fails end with the file */
				mine.dev.fd = open(mine.dev.path,
						   O_RDWR | O_CLOEXEC);
				if (mine.dev.fd < 0)
					nt_die("%s: %m", mine.dev.path);
				nt_ring_open(&ring, 64, modes[m]->setup);
				nt_test(run_one, &r, "%s", name);
				nt_ring_close(&ring);
				close(mine.dev.fd);
			}
	return count;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the bounds of the driver, a byte before and behind.",
		.wants = "known",
		.fits = nt_place_known,
		.usage = "  --only=TEXT  only cases with TEXT in the name",
		.option = option,
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_area_make(NT_SMALL, AREA, &area);
	nt_area_make(NT_THP, NT_HUGE, &meta);
	wire = malloc(AREA);
	if (!wire)
		nt_die("not enough memory");
	nt_plan(go(ns, n, false));
	go(ns, n, true);
	return nt_end();
}
