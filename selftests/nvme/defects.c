// SPDX-License-Identifier: GPL-2.0
/*
 * What the drivers of the kernels do wrong and survive; each case fails there,
 * see stock-fails.  What they do not survive has a program of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nvme_test.h"

#define ADMIN_NS_ATTACHMENT	0x15
#define ADMIN_FORMAT		0x80

#define LOG_CHANGED_NS		0x04
#define FEAT_ASYNC_EVENT	0x0b

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && ns->lba_size == 512 && !ns->ms;
}

/* A multipath head of which there is one path. */
static bool is_lone_head(const struct nt_ns *ns)
{
	unsigned char id[NT_PAGE];

	if (!is_plain_nvm(ns) || !strstr(ns->dev.sysfs, "/nvme-subsystem/"))
		return false;
	if (nt_identify(ns->dev.fd, NVME_ID_CNS_NS, 0, ns->nsid, id))
		nt_die("%s: cannot be identified", ns->dev.path);
	return !(id[30] & 1);
}

static bool is_prp_only(const struct nt_ns *ns)
{
	unsigned char id[NT_PAGE];

	if (nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, id))
		nt_die("%s: cannot be identified", ns->ctrl.path);
	return is_plain_nvm(ns) && !(id[536] & 3);
}

static bool has_separate_metadata(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && ns->ms && !ns->extended;
}

static bool is_kv(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_KV;
}

/* A length of metadata is as limited as one of data. */
static void metadata_length(struct nt_ns *ns, enum nt_via via)
{
	__u32 len = 80 << 10;
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.addr = (uintptr_t)nt_alloc(ns->lba_size, 0),
		.data_len = ns->lba_size,
		.metadata = (uintptr_t)nt_alloc(len, 0),
		.metadata_len = len,
	};

	/* more than belongs to the largest transfer */
	nt_eq(ns->mdts && ns->mdts / ns->lba_size * ns->ms < len, true);
	nt_status(nt_io(ns, via, &cmd, NULL), -EINVAL);
	cmd.metadata_len = ns->ms;
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
}

/* The first 512 bytes of a page are the buffer. */
static void check_short(const unsigned char *data)
{
	unsigned char poison[NT_PAGE];

	memset(poison, NT_POISON, sizeof(poison));
	nt_same(data + 512, poison, NT_PAGE - 512);
}

/* Identify always transfers 4096 bytes, and PRPs do not say less. */
static void short_identify(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.addr = (uintptr_t)nt_alloc(NT_PAGE, 0),
		.data_len = 512,
		.cdw10 = NVME_ID_CNS_CTRL,
	};
	unsigned char *data = (void *)(uintptr_t)cmd.addr, want[NT_PAGE];

	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, want),
		  NVME_SC_SUCCESS);
	nt_status(nt_admin(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
	/* what follows is an identifier of the controller, there may be two */
	nt_same(data, want, 78);
	check_short(data);
}

/* Nothing but the command tells a PRP-only controller how much to transfer. */
static void short_read(struct nt_ns *ns, enum nt_via via)
{
	unsigned char *data = nt_alloc(NT_PAGE, 0);
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.addr = (uintptr_t)data,
		.data_len = 512,
		.cdw12 = 7,
	};

	nt_status(nt_io(ns, via, &cmd, NULL), -EINVAL);
	check_short(data);
	cmd.cdw12 = 0;
	nt_status(nt_io(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
	check_short(data);
}

struct deleter {
	struct nt_ns ns;
	enum nt_via via;
	int want;
};

static const struct nt_key key = { .len = 8, .bytes = "defects" };

static void try_delete(void *arg)
{
	struct deleter *d = arg;

	nt_status(nt_kv(&d->ns, d->via, NVME_CMD_KV_DELETE, 0, &key, NULL, 0,
			NULL), d->want);
}

/* Delete changes the namespace, whether or not the controller says so. */
static void kv_delete(struct nt_ns *ns, enum nt_via via)
{
	struct deleter d = { .ns = *ns, .via = via };
	char value[] = "a value";

	nt_status(nt_kv(ns, via, NVME_CMD_KV_STORE, 0, &key, value,
			sizeof(value), NULL), NVME_SC_SUCCESS);
	for (d.want = -EACCES;; d.want = NVME_SC_SUCCESS) {
		d.ns.dev.has_ring = false;
		d.ns.dev.fd = nt_open_as(&ns->dev, NT_TESTER,
					 d.want ? O_RDONLY : O_RDWR);
		if (d.ns.dev.fd < 0)
			nt_fail("cannot be opened: errno %d", -d.ns.dev.fd);
		nt_as(NT_TESTER, try_delete, &d);
		close(d.ns.dev.fd);
		if (!d.want)
			return;
	}
}

static bool reset(const struct nt_dev *ctrl)
{
	char path[600];
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), "%s/reset_controller", ctrl->sysfs);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ret = write(fd, "1", 1);
	close(fd);
	return ret == 1;
}

/* While its only controller is reset, a head has no path. */
static void no_path(struct nt_ns *ns, enum nt_via via)
{
	/*
	 * Linux 6.1 lets commands in before the controller knows of the shadow
	 * doorbells: one that is lost this way ends by its timeouts.
	 */
	struct nvme_uring_cmd flush = {
		.opcode = NVME_CMD_FLUSH,
		.timeout_ms = 5000,
	};
	unsigned int i, again = 0;
	int ret, bad = 0, status;
	pid_t pid;

	for (i = 0; i < 10 && !again && !bad; i++) {
		pid = fork();
		if (pid < 0)
			nt_die("fork: %m");
		if (!pid)
			_exit(!reset(&ns->ctrl));
		while (!waitpid(pid, &status, WNOHANG)) {
			ret = nt_io(ns, via, &flush, NULL);
			if (ret == -EAGAIN)
				again++;
			/* -EINTR: under way when the reset began */
			else if (ret && ret != -EINTR)
				bad = ret;
		}
		nt_eq(status, 0);
	}
	nt_status(bad, NVME_SC_SUCCESS);
	nt_eq(again > 0, true);
	nt_status(nt_io(ns, via, &flush, NULL), NVME_SC_SUCCESS);
}

static unsigned int block_size(const struct nt_ns *ns)
{
	char path[100];
	unsigned int size;
	FILE *f;

	/* /dev/ngXnY and nvmeXnY */
	snprintf(path, sizeof(path), "/sys/block/nvme%s/queue/logical_block_size",
		 ns->dev.path + strlen("/dev/ng"));
	f = fopen(path, "r");
	if (!f || fscanf(f, "%u", &size) != 1)
		nt_fail("%s: errno %d", path, errno);
	fclose(f);
	return size;
}

/* The format without metadata and with blocks of 1 << @shift bytes. */
static void reformat(struct nt_ns *ns, enum nt_via via, unsigned int shift)
{
	struct nvme_uring_cmd cmd = {
		.opcode = ADMIN_FORMAT,
		.nsid = ns->nsid,
	};
	unsigned char id[NT_PAGE], *lbaf;

	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_NS, 0, ns->nsid, id),
		  NVME_SC_SUCCESS);
	for (lbaf = id + 128; lbaf[2] != shift || nt_le16(lbaf); lbaf += 4)
		if (cmd.cdw10++ == id[25])
			nt_skip("no format with blocks of %u bytes",
				1U << shift);
	nt_status(nt_admin(ns, via, &cmd, NULL), NVME_SC_SUCCESS);
}

/* The block device is another one once Format has completed. */
static void format_rescan(struct nt_ns *ns, enum nt_via via)
{
	nt_eq(block_size(ns), 512);
	reformat(ns, via, 12);
	nt_eq(block_size(ns), 4096);
	reformat(ns, via, 9);
	nt_eq(block_size(ns), 512);
}

/* Which events the controller sends: what it was before. */
static __u64 set_events(struct nt_ns *ns, __u32 events)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_GET_FEATURES,
		.cdw10 = FEAT_ASYNC_EVENT,
	};
	__u64 before;

	nt_status(nt_dev_ioctl(ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &cmd,
			       &before), NVME_SC_SUCCESS);
	cmd.opcode = NVME_ADMIN_SET_FEATURES;
	cmd.cdw11 = events;
	nt_status(nt_dev_ioctl(ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
	return before;
}

/* Attach the namespace to the controllers of the list or detach it. */
static void attach(struct nt_ns *ns, enum nt_via via, const void *list,
		   bool detach)
{
	struct nvme_uring_cmd cmd = {
		.opcode = ADMIN_NS_ATTACHMENT,
		.nsid = ns->nsid,
		.addr = (uintptr_t)list,
		.data_len = NT_PAGE,
		.cdw10 = detach,
	};
	int ret;

	/* the namespace's own node may not be there */
	if (via == NT_IOCTL)
		ret = nt_dev_ioctl(ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &cmd,
				   NULL);
	else
		ret = nt_admin(ns, via, &cmd, NULL);
	nt_status(ret, NVME_SC_SUCCESS);
}

/*
 * The node has gone, or come, once Namespace Attachment has completed, also
 * when the controller sends no event.
 */
static void attach_rescan(struct nt_ns *ns, enum nt_via via)
{
	struct nvme_uring_cmd log = {
		.opcode = NVME_ADMIN_GET_LOG,
		.addr = (uintptr_t)nt_alloc(NT_PAGE, 0),
		.data_len = NT_PAGE,
		.cdw10 = LOG_CHANGED_NS | (NT_PAGE / 4 - 1) << 16,
	};
	unsigned char *list = nt_alloc(NT_PAGE, 0), id[NT_PAGE];
	bool there, back;
	__u64 events;

	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, id),
		  NVME_SC_SUCCESS);
	if (!(id[256] & 8))
		nt_skip("no namespace management");
	memset(list, 0, NT_PAGE);
	list[0] = 1;
	memcpy(list + 2, id + 78, 2);
	events = set_events(ns, 0);
	nt_close(&ns->dev);
	attach(ns, via, list, true);
	there = nt_find_node(&ns->ctrl, ns->nsid, &ns->dev);
	if (there)
		nt_close(&ns->dev);
	attach(ns, via, list, false);
	back = nt_find_node(&ns->ctrl, ns->nsid, &ns->dev);
	/* what has changed is no news when events are sent again */
	nt_status(nt_dev_ioctl(ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &log, NULL),
		  NVME_SC_SUCCESS);
	set_events(ns, events);
	nt_eq(there, false);
	nt_eq(back, true);
}

static const struct {
	const char *name;
	bool (*fits)(const struct nt_ns *ns);
	void (*run)(struct nt_ns *ns, enum nt_via via);
} defects[] = {
	{ "metadata_length", has_separate_metadata, metadata_length },
	{ "short_identify", is_plain_nvm, short_identify },
	{ "short_read", is_prp_only, short_read },
	{ "kv_delete", is_kv, kv_delete },
	{ "no_path", is_lone_head, no_path },
	/* leave the kernel with a wrong idea of the namespace */
	{ "attach_rescan", is_prp_only, attach_rescan },
	{ "format_rescan", is_prp_only, format_rescan },
};

struct one_case {
	size_t defect;
	struct nt_ns *ns;
	enum nt_via via;
};

static void run_one(void *arg)
{
	struct one_case *c = arg;

	defects[c->defect].run(c->ns, c->via);
}

/* Every case, or the number of them. */
static unsigned int run_all(struct nt_ns *ns, size_t n, bool run)
{
	unsigned int count = 0;
	struct one_case c;
	size_t i;

	for (c.defect = 0; c.defect < ARRAY_SIZE(defects); c.defect++) {
		for (i = 0; i < n; i++) {
			c.ns = &ns[i];
			if (!defects[c.defect].fits(c.ns))
				continue;
			for (c.via = 0; c.via < NT_VIAS; c.via++, count++)
				if (run)
					nt_test(run_one, &c, "%s %s %s",
						c.ns->name, nt_via_name(c.via),
						defects[c.defect].name);
		}
	}
	return count;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test what the kernels' own drivers do wrong.",
		.wants = "usable",
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(run_all(ns, n, false));
	run_all(ns, n, true);
	return nt_end();
}
