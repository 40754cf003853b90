// SPDX-License-Identifier: GPL-2.0
/*
 * The limits of a namespace, as sysfs and NVME_NG_IOCTL_LIMITS tell them to
 * everybody, agree with what the controller says, and hold: what is within
 * works and what is one beyond ends as documented.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "nvme_ng.h"
#include "watch.h"

/* largest of what the drivers of all kernels take */
#define DRIVER_MAX	(4U << 20)

#define MAX_IOV		1024

struct reader {
	struct nt_ns *ns;
	int fd;
};

static void get_limits(int fd, struct nvme_ng_limits *lim)
{
	memset(lim, NT_POISON, sizeof(*lim));
	lim->size = sizeof(*lim);
	lim->flags = 0;
	if (ioctl(fd, NVME_NG_IOCTL_LIMITS, lim))
		nt_fail("NVME_NG_IOCTL_LIMITS: errno %d", errno);
	nt_eq(lim->size, sizeof(*lim));
	nt_eq(lim->flags, 0);
	nt_eq(lim->rsvd, 0);
}

static __u64 attribute(const struct nt_ns *ns, const char *name)
{
	char path[600], line[40], *end;
	unsigned long long value;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", ns->dev.sysfs, name);
	f = fopen(path, "r");
	if (!f)
		nt_fail("%s: errno %d", path, errno);
	if (!fgets(line, sizeof(line), f))
		nt_fail("%s: nothing in it", path);
	fclose(f);
	value = strtoull(line, &end, 10);
	if (end == line || strcmp(end, "\n"))
		nt_fail("%s: not a number: %s", path, line);
	return value;
}

/* As the unprivileged user: both ways to ask give the same. */
static void agree(void *arg)
{
	struct nvme_ng_limits lim;
	struct reader *r = arg;

	get_limits(r->fd, &lim);
#define SAME(field) \
	nt_eq_at(__FILE__, __LINE__, "sysfs " #field, \
		 attribute(r->ns, #field), lim.field)
	SAME(csi);
	SAME(nsid);
	SAME(features);
	SAME(max_transfer);
	SAME(max_segments);
	SAME(max_metadata);
	SAME(dma_alignment);
	SAME(virt_boundary);
	SAME(lba_size);
	SAME(metadata_size);
	SAME(pi_type);
	SAME(pi_size);
	SAME(zone_size);
	SAME(max_append);
	SAME(max_key_len);
	SAME(max_value_len);
#undef SAME
}

static void unprivileged(struct nt_ns *ns, enum nt_via via)
{
	struct reader r = { .ns = ns };

	(void)via;
	r.fd = nt_open_as(&ns->dev, NT_TESTER, O_RDONLY);
	if (r.fd < 0)
		nt_status(r.fd, 0);
	nt_as(NT_TESTER, agree, &r);
	close(r.fd);
}

static void identify(struct nt_ns *ns, __u8 cns, __u8 csi, unsigned char *id)
{
	nt_status(nt_identify(ns->ctrl.fd, cns, csi, ns->nsid, id),
		  NVME_SC_SUCCESS);
}

/* What the controller says. */
static void as_identified(struct nt_ns *ns, enum nt_via via)
{
	unsigned char ctrl[NT_PAGE], id[NT_PAGE];
	struct nvme_ng_limits lim;
	__u32 append;

	(void)via;
	get_limits(ns->dev.fd, &lim);
	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, ctrl),
		  NVME_SC_SUCCESS);
	nt_eq(lim.csi, ns->csi);
	nt_eq(lim.nsid, ns->nsid);
	nt_eq(!!(lim.features & NVME_NG_F_SGL), !!(ctrl[536] & 3));
	nt_eq(!!(lim.features & NVME_NG_F_EXT_LBA), ns->extended);
	if (ns->mdts && ns->mdts <= DRIVER_MAX)
		nt_eq(lim.max_transfer, ns->mdts);
	else
		nt_eq(lim.max_transfer >= DRIVER_MAX, true);
	nt_eq(lim.max_segments, MAX_IOV);
	nt_eq(lim.lba_size, ns->lba_size);
	nt_eq(lim.metadata_size, ns->ms);
	nt_eq(lim.pi_type, ns->pi);
	nt_eq(lim.pi_size, ns->pi ? 8 : 0);
	nt_eq(lim.max_metadata, ns->ms && !ns->extended ?
	      lim.max_transfer / ns->lba_size * ns->ms : 0);
	/* SGLS 1:0: 01b no alignment, 10b dwords; PRPs: dwords */
	nt_eq(lim.dma_alignment, (ctrl[536] & 3) == 1 ? 1 : 4);
	nt_eq(lim.virt_boundary, ctrl[536] & 3 ? 0 : NT_PAGE);

	if (ns->csi != NVME_CSI_ZNS) {
		nt_eq(lim.zone_size, 0);
		nt_eq(lim.max_append, 0);
	} else {
		identify(ns, NVME_ID_CNS_NS, 0, id);
		ctrl[0] = id[26] & 0xf;
		identify(ns, NVME_ID_CNS_CS_NS, NVME_CSI_ZNS, id);
		nt_eq(lim.zone_size, nt_le64(id + 2816 + 16 * ctrl[0]));
		nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_CS_CTRL,
				      NVME_CSI_ZNS, 0, id), NVME_SC_SUCCESS);
		append = id[0] ? (__u32)NT_PAGE << id[0] : lim.max_transfer;
		nt_eq(lim.max_append, append < lim.max_transfer ? append :
		      lim.max_transfer);
	}
	if (ns->csi != NVME_CSI_KV) {
		nt_eq(lim.max_key_len, 0);
		nt_eq(lim.max_value_len, 0);
	} else {
		identify(ns, NVME_ID_CNS_CS_NS, NVME_CSI_KV, id);
		/* KV Format Index, then the format itself */
		ctrl[0] = id[29] & 0xf;
		nt_eq(lim.max_key_len, nt_le16(id + 72 + 16 * ctrl[0]));
		nt_eq(lim.max_value_len, nt_le32(id + 72 + 16 * ctrl[0] + 4));
	}
}

static const struct nt_key key = { .len = 16, .bytes = "limits' own key" };

/* bytes that travel as data for each block */
static __u32 block(const struct nt_ns *ns)
{
	return ns->lba_size + (ns->extended ? ns->ms : 0);
}

/*
 * A command that moves at least @len bytes to the host where the command set
 * can, with a buffer of @len bytes: Read, Retrieve, Echo Receive.
 */
static void form(struct nt_ns *ns, __u32 len, void *meta,
		 struct nvme_uring_cmd *cmd)
{
	*cmd = (struct nvme_uring_cmd) { .opcode = NVME_CMD_READ };
	switch (ns->csi) {
	case NVME_CSI_NVM:
	case NVME_CSI_ZNS:
		cmd->cdw12 = len / block(ns) - 1;
		if (ns->ms && !ns->extended) {
			cmd->metadata = (uintptr_t)meta;
			cmd->metadata_len = len / block(ns) * ns->ms;
		}
		break;
	case NVME_CSI_KV:
		cmd->cdw2 = nt_le32(key.bytes);
		cmd->cdw3 = nt_le32(key.bytes + 4);
		cmd->cdw10 = len;
		cmd->cdw11 = key.len;
		cmd->cdw14 = nt_le32(key.bytes + 8);
		cmd->cdw15 = nt_le32(key.bytes + 12);
		break;
	case NVME_CSI_ECHO:
		cmd->opcode = NVME_CMD_ECHO_RECEIVE;
		/* it holds that much, and a longer buffer is no error */
		cmd->cdw10 = len > 1 << 20 ? 1 << 20 : len;
		break;
	default:
		nt_skip("no command of CSI %02xh is known", ns->csi);
	}
}

/* What that command finds, of @len bytes. */
static void prepare(struct nt_ns *ns, enum nt_via via, void *data, __u32 len)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_WRITE,
		.addr = (uintptr_t)data,
		.data_len = len,
	};

	nt_fill(data, len, len);
	switch (ns->csi) {
	case NVME_CSI_NVM:
		/* generation and checking of protection information off */
		cmd.cdw12 = len / block(ns) - 1;
		if (ns->ms && !ns->extended) {
			cmd.metadata_len = len / block(ns) * ns->ms;
			cmd.metadata = (uintptr_t)nt_alloc(cmd.metadata_len, 0);
		}
		break;
	case NVME_CSI_ZNS:
		nt_status(nt_io(ns, via, &(struct nvme_uring_cmd) {
				.opcode = NVME_CMD_ZONE_MGMT_SEND,
				.cdw13 = 4 }, NULL), NVME_SC_SUCCESS);
		cmd.cdw12 = len / block(ns) - 1;
		break;
	case NVME_CSI_KV:
		nt_status(nt_kv(ns, via, NVME_CMD_KV_STORE, 0, &key, data, len,
				NULL), NVME_SC_SUCCESS);
		return;
	case NVME_CSI_ECHO:
		cmd.opcode = NVME_CMD_ECHO_SEND;
		cmd.cdw10 = len;
		break;
	default:
		nt_skip("no command of CSI %02xh is known", ns->csi);
	}
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
}

static void clean(struct nt_ns *ns, enum nt_via via)
{
	if (ns->csi == NVME_CSI_KV)
		nt_status(nt_kv(ns, via, NVME_CMD_KV_DELETE, 0, &key, NULL, 0,
				NULL), NVME_SC_SUCCESS);
}

/* @cmd with @len bytes at @data, plain or in that many equal pieces. */
static int transfer(struct nt_ns *ns, enum nt_via via, unsigned int how,
		    struct nvme_uring_cmd cmd, char *data, __u32 len,
		    unsigned int pieces)
{
	static struct iovec vec[MAX_IOV + 1];
	__u32 each = len / pieces & -4U;
	unsigned int i;

	cmd.addr = (uintptr_t)data;
	cmd.data_len = len;
	if (how & NT_VEC) {
		for (i = 0; i < pieces; i++) {
			vec[i].iov_base = data + i * each;
			vec[i].iov_len = i + 1 < pieces ? each : len - i * each;
		}
		cmd.addr = (uintptr_t)vec;
		cmd.data_len = pieces;
	}
	return nt_io_form(ns, via, how, &cmd, NULL);
}

static void max_transfer(struct nt_ns *ns, enum nt_via via)
{
	unsigned int how, hows = via == NT_URING ? NT_VEC | NT_FIXED : NT_VEC;
	__u32 unit = ns->lba_size ? block(ns) : 4, len, more, small;
	struct nvme_uring_cmd cmd, beyond;
	struct nvme_ng_limits lim;
	char *data, *got, *meta;
	struct iovec buffer;

	get_limits(ns->dev.fd, &lim);
	len = lim.max_transfer / unit * unit;
	more = len + unit;
	small = ns->csi == NVME_CSI_KV ? 4096 : len;
	if (ns->csi == NVME_CSI_ECHO && small > 1 << 20)
		small = 1 << 20;
	data = nt_alloc(small, 0);
	prepare(ns, via, data, small);
	meta = nt_alloc(more / unit * ns->ms, 0);
	got = nt_alloc(more, 0);

	if (via == NT_URING) {
		buffer.iov_base = got;
		buffer.iov_len = more;
		if (!ns->dev.has_ring)
			nt_fail("no ring");
		nt_eq(-io_uring_register_buffers(&ns->dev.ring, &buffer, 1),
		      0);
	}
	for (how = 0; how <= hows; how++) {
		memset(got, NT_POISON, more);
		form(ns, len, meta, &cmd);
		nt_status(transfer(ns, via, how, cmd, got, len, 7),
			  NVME_SC_SUCCESS);
		nt_same(got, data, small);

		/* a longer command, and the same with a longer buffer */
		form(ns, more, meta, &beyond);
		if (beyond.metadata_len > lim.max_metadata)
			beyond.metadata_len = lim.max_metadata;
		nt_status(transfer(ns, via, how, beyond, got, more, 7), -EINVAL);
		nt_status(transfer(ns, via, how, cmd, got,
				   lim.max_transfer + 4, 7), -EINVAL);
	}
	if (via == NT_URING)
		nt_eq(-io_uring_unregister_buffers(&ns->dev.ring), 0);
	clean(ns, via);
}

static void max_segments(struct nt_ns *ns, enum nt_via via)
{
	__u32 unit = ns->lba_size ? block(ns) : 4096;
	__u32 len = (4096 + unit - 1) / unit * unit;
	char *data = nt_alloc(len, 0), *got = nt_alloc(len, 0);
	char *meta = nt_alloc(len, 0);
	struct nvme_ng_limits lim;
	struct nvme_uring_cmd cmd;

	get_limits(ns->dev.fd, &lim);
	if (lim.max_segments > MAX_IOV)
		nt_fail("more than %u segments: %u", MAX_IOV,
			lim.max_segments);
	prepare(ns, via, data, len);
	form(ns, len, meta, &cmd);
	nt_status(transfer(ns, via, NT_VEC, cmd, got, len, lim.max_segments),
		  NVME_SC_SUCCESS);
	nt_same(got, data, len);
	nt_status(transfer(ns, via, NT_VEC, cmd, got, len, lim.max_segments + 1),
		  -EINVAL);
	clean(ns, via);
}

static void max_metadata(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_ng_limits lim;
	struct nvme_uring_cmd cmd;
	char *data, *meta, *got;
	__u32 len;

	get_limits(ns->dev.fd, &lim);
	if (!lim.max_metadata) {
		char *byte = nt_alloc(4, 0);

		/* metadata where there can be none */
		form(ns, ns->lba_size ? block(ns) : 4096, NULL, &cmd);
		cmd.metadata = (uintptr_t)byte;
		cmd.metadata_len = 4;
		nt_status(transfer(ns, via, 0, cmd, nt_alloc(NT_PAGE, 0),
				   ns->lba_size ? block(ns) : 4096, 1),
			  -EINVAL);
		return;
	}
	len = lim.max_metadata / ns->ms * ns->lba_size;
	data = nt_alloc(len, 0);
	meta = nt_alloc(lim.max_metadata, 0);
	got = nt_alloc(lim.max_metadata + 8, 0);
	nt_fill(data, len, 1);
	nt_fill(meta, lim.max_metadata, 2);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 0, len / ns->lba_size, data,
			meta, NULL), NVME_SC_SUCCESS);
	nt_status(nt_rw(ns, via, NVME_CMD_READ, 0, len / ns->lba_size, data,
			got, NULL), NVME_SC_SUCCESS);
	nt_same(got, meta, lim.max_metadata);

	form(ns, len, got, &cmd);
	nt_eq(cmd.metadata_len, lim.max_metadata);
	cmd.metadata_len += 4;
	nt_status(transfer(ns, via, 0, cmd, data, len, 1), -EINVAL);
	cmd.metadata_len += 4;
	nt_status(transfer(ns, via, 0, cmd, data, len, 1), -EINVAL);
}

static void max_append(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_ng_limits lim;
	char *data, *got;
	__u64 at;

	get_limits(ns->dev.fd, &lim);
	data = nt_alloc(lim.max_append + ns->lba_size, 0);
	got = nt_alloc(lim.max_append, 0);
	nt_fill(data, lim.max_append, 3);
	nt_status(nt_io(ns, via, &(struct nvme_uring_cmd) {
			.opcode = NVME_CMD_ZONE_MGMT_SEND,
			.cdw10 = lim.zone_size,
			.cdw13 = 4 }, NULL), NVME_SC_SUCCESS);
	nt_status(nt_rw(ns, via, NVME_CMD_ZONE_APPEND, lim.zone_size,
			lim.max_append / ns->lba_size, data, NULL, &at),
		  NVME_SC_SUCCESS);
	nt_eq(at, lim.zone_size);
	nt_status(nt_rw(ns, via, NVME_CMD_READ, lim.zone_size,
			lim.max_append / ns->lba_size, got, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_same(got, data, lim.max_append);
	nt_status(nt_rw(ns, via, NVME_CMD_ZONE_APPEND, lim.zone_size,
			lim.max_append / ns->lba_size + 1, data, NULL, &at),
		  lim.max_append < lim.max_transfer ? NVME_SC_INVALID_FIELD :
		  -EINVAL);
}

static void key_value(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key longer = key;
	struct nvme_ng_limits lim;
	char *data, *got;

	get_limits(ns->dev.fd, &lim);
	if (lim.max_value_len >= lim.max_transfer)
		nt_skip("a value of %u bytes is more than a command takes",
			lim.max_value_len);
	nt_eq(lim.max_key_len, sizeof(key.bytes));
	data = nt_alloc(lim.max_value_len + 1, 0);
	got = nt_alloc(lim.max_value_len, 0);
	prepare(ns, via, data, lim.max_value_len);
	nt_status(nt_kv(ns, via, NVME_CMD_KV_RETRIEVE, 0, &key, got,
			lim.max_value_len, NULL), NVME_SC_SUCCESS);
	nt_same(got, data, lim.max_value_len);
	clean(ns, via);

	nt_status(nt_kv(ns, via, NVME_CMD_KV_STORE, 0, &key, data,
			lim.max_value_len + 1, NULL), NVME_SC_KV_VALUE_SIZE);
	longer.len = lim.max_key_len + 1;
	nt_status(nt_kv(ns, via, NVME_CMD_KV_STORE, 0, &longer, data, 4, NULL),
		  NVME_SC_KV_KEY_SIZE);
}

/* Other addresses and gaps than those that need no copy work as well. */
static void alignment(struct nt_ns *ns, enum nt_via via)
{
	__u32 unit = ns->lba_size ? block(ns) : 4096;
	__u32 len = (4096 + unit - 1) / unit * unit, i;
	char *data = nt_alloc(len, 0), *meta = nt_alloc(len, 0);
	const __u32 ways[] = { 0, 4, 1, 2048, 4095 };
	struct nvme_ng_limits lim;
	struct nvme_uring_cmd cmd;

	get_limits(ns->dev.fd, &lim);
	prepare(ns, via, data, len);
	form(ns, len, meta, &cmd);
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		char *at = nt_alloc(len + 4, lim.dma_alignment * ways[i] % 4096);
		char *odd = nt_alloc(len + 4, ways[i]);
		char poison[4];

		memset(poison, NT_POISON, sizeof(poison));
		nt_status(transfer(ns, via, 0, cmd, at, len, 1), NVME_SC_SUCCESS);
		nt_same(at, data, len);
		nt_same(at + len, poison, sizeof(poison));
		nt_status(transfer(ns, via, NT_VEC, cmd, odd, len, 3),
			  NVME_SC_SUCCESS);
		nt_same(odd, data, len);
		nt_same(odd + len, poison, sizeof(poison));
	}
	clean(ns, via);
}

static int ask(struct nt_ns *ns, void *arg)
{
	return ioctl(ns->dev.fd, NVME_NG_IOCTL_LIMITS, arg) ? -errno : 0;
}

/* The structure may grow: programs and kernels of other ages get along. */
static void extensible(struct nt_ns *ns, enum nt_via via)
{
	__u32 sizes[] = { 16, 20, 24, sizeof(struct nvme_ng_limits),
			  sizeof(struct nvme_ng_limits) + 1,
			  sizeof(struct nvme_ng_limits) + 64, NT_PAGE };
	char *page = nt_alloc(2 * NT_PAGE, 0), *want = nt_alloc(2 * NT_PAGE, 0);
	struct nvme_ng_limits full, *lim = (void *)page;
	unsigned int i;
	char *hole;

	(void)via;
	get_limits(ns->dev.fd, &full);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		__u32 known = sizes[i] < sizeof(full) ? sizes[i] : sizeof(full);

		memset(page, NT_POISON, 2 * NT_PAGE);
		lim->size = sizes[i];
		lim->flags = 0;
		nt_status(ask(ns, lim), 0);
		memset(want, NT_POISON, 2 * NT_PAGE);
		memset(want, 0, sizes[i]);
		full.size = known;
		memcpy(want, &full, known);
		nt_same(page, want, 2 * NT_PAGE);
	}

	for (i = 0; i < 16; i++) {
		*lim = (struct nvme_ng_limits) { .size = i };
		nt_status(ask(ns, lim), -EINVAL);
	}
	*lim = (struct nvme_ng_limits) { .size = NT_PAGE + 1 };
	nt_status(ask(ns, lim), -EINVAL);
	for (i = 0; i < 32; i++) {
		*lim = (struct nvme_ng_limits) { .size = sizeof(full),
						 .flags = 1U << i };
		nt_status(ask(ns, lim), -EINVAL);
	}

	nt_status(ask(ns, NULL), -EFAULT);
	hole = mmap(NULL, 2 * NT_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hole == MAP_FAILED || munmap(hole + NT_PAGE, NT_PAGE))
		nt_die("no memory: %m");
	/* the end of the structure, and the end of what is to be cleared */
	lim = (void *)(hole + NT_PAGE - 16);
	lim->size = sizeof(full);
	lim->flags = 0;
	nt_status(ask(ns, lim), -EFAULT);
	lim = (void *)(hole + NT_PAGE - sizeof(full));
	lim->size = sizeof(full) + 8;
	lim->flags = 0;
	nt_status(ask(ns, lim), -EFAULT);
	lim->size = sizeof(full);
	lim->flags = 0;
	nt_status(ask(ns, lim), 0);
	if (mprotect(hole, NT_PAGE, PROT_READ))
		nt_die("mprotect: %m");
	nt_status(ask(ns, lim), -EFAULT);
	munmap(hole, NT_PAGE);

	/* a controller has no limits of a namespace */
	*(struct nvme_ng_limits *)page = full;
	nt_eq(ioctl(ns->ctrl.fd, NVME_NG_IOCTL_LIMITS, page) ? errno : 0,
	      ENOTTY);
}

/* Nobody has the driver send a command by asking: Identify would fail. */
static void no_command(struct nt_ns *ns, enum nt_via via)
{
	const struct nt_rule rule = {
		.admin = 1,
		.opcode = NVME_ADMIN_IDENTIFY,
		.status = htole16(0x006),
	};
	struct nvme_ng_limits want, lim = { .size = sizeof(lim) };
	int ret;

	(void)via;
	if (!ns->testbed)
		nt_skip("no errors can be injected");
	get_limits(ns->dev.fd, &want);
	nt_inject(ns->ctrl.fd, &rule);
	ret = ask(ns, &lim);
	nt_inject(ns->ctrl.fd, NULL);
	nt_status(ret, 0);
	nt_same(&lim, &want, sizeof(lim));
}

#define ANY (-1)

/* what a case is about: limits are read by ioctl, kept by both ways to send */
static const struct {
	const char *name;
	void (*run)(struct nt_ns *ns, enum nt_via via);
	bool read_only;
	int csi;
} cases[] = {
	{ "unprivileged", unprivileged, true, ANY },
	{ "as_identified", as_identified, true, ANY },
	{ "extensible", extensible, true, ANY },
	{ "no_command", no_command, true, ANY },
	{ "max_segments", max_segments, false, ANY },
	{ "max_transfer", max_transfer, false, ANY },
	{ "max_metadata", max_metadata, false, ANY },
	{ "alignment", alignment, false, ANY },
	{ "max_append", max_append, false, NVME_CSI_ZNS },
	{ "key_value", key_value, false, NVME_CSI_KV },
};

struct one_run {
	size_t i;
	struct nt_ns *ns;
	enum nt_via via;
};

static bool has_case(const struct one_run *r)
{
	return (cases[r->i].csi == ANY || cases[r->i].csi == r->ns->csi) &&
		(!cases[r->i].read_only || r->via == NT_IOCTL);
}

static void run_one(void *arg)
{
	struct one_run *r = arg;

	cases[r->i].run(r->ns, r->via);
}

/* Go through the cases of all namespaces, or only count them. */
static unsigned int go(struct nt_ns *ns, size_t n, bool run)
{
	struct one_run r;
	unsigned int count = 0;

	for (r.ns = ns; r.ns < ns + n; r.ns++) {
		for (r.via = 0; r.via < NT_VIAS; r.via++) {
			for (r.i = 0; r.i < ARRAY_SIZE(cases); r.i++) {
				if (!has_case(&r))
					continue;
				count++;
				if (run)
					nt_test(run_one, &r, "%s %s %s",
						r.ns->name,
						nt_via_name(r.via),
						cases[r.i].name);
			}
		}
	}
	return count;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the limits of a namespace.",
		.wants = "usable",
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(go(ns, n, false));
	go(ns, n, true);
	return nt_end();
}
