// SPDX-License-Identifier: GPL-2.0
/* Nodes, as sysfs describes them to everyone. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/nvme_ioctl.h>

#include "ngctl.h"

bool read_line(char *line, size_t size, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	ssize_t len;
	int fd;

	line[0] = '\0';
	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, line, size - 1);
	close(fd);
	if (len <= 0) {
		line[0] = '\0';
		return false;
	}
	line[len] = '\0';
	line[strcspn(line, "\n")] = '\0';
	/* numbers and names of a device are filled up with spaces */
	for (len = strlen(line); len && line[len - 1] == ' '; len--)
		line[len - 1] = '\0';
	/* devices and processes choose some of these: nothing for a terminal */
	for (len = 0; line[len]; len++)
		if (!isprint((unsigned char)line[len]))
			line[len] = '?';
	return true;
}

/* Each is an attribute of its name. */
#define LIMIT(name)	{ #name, offsetof(struct nvme_ng_limits, name),	\
			  sizeof(((struct nvme_ng_limits *)0)->name) }
static const struct {
	const char *name;
	size_t offset;
	size_t size;
} limits[] = {
	LIMIT(nsid), LIMIT(csi), LIMIT(features), LIMIT(max_transfer),
	LIMIT(max_segments), LIMIT(max_metadata), LIMIT(dma_alignment),
	LIMIT(virt_boundary), LIMIT(lba_size), LIMIT(metadata_size),
	LIMIT(pi_type), LIMIT(pi_size), LIMIT(zone_size), LIMIT(max_append),
	LIMIT(max_key_len), LIMIT(max_value_len),
};

static void set_limit(void *field, size_t size, unsigned long long value)
{
	switch (size) {
	case 1:
		*(__u8 *)field = value;
		break;
	case 2:
		*(__u16 *)field = value;
		break;
	case 4:
		*(__u32 *)field = value;
		break;
	default:
		*(__u64 *)field = value;
	}
}

static unsigned long long get_limit(const void *field, size_t size)
{
	switch (size) {
	case 1:
		return *(const __u8 *)field;
	case 2:
		return *(const __u16 *)field;
	case 4:
		return *(const __u32 *)field;
	default:
		return *(const __u64 *)field;
	}
}

/* Linux has the first two, too: all of them are of nvme-ng alone. */
static bool read_limits(const char *name, struct nvme_ng_limits *lim)
{
	char line[32];
	size_t i;

	memset(lim, 0, sizeof(*lim));
	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		if (!read_line(line, sizeof(line), SYSFS_GENERIC "/%s/%s", name,
			       limits[i].name))
			return false;
		set_limit((char *)lim + limits[i].offset, limits[i].size,
			  strtoull(line, NULL, 10));
	}
	return true;
}

void json_limits(const struct nvme_ng_limits *lim)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(limits); i++)
		json_number(limits[i].name,
			    get_limit((const char *)lim + limits[i].offset,
				      limits[i].size));
}

/* The controller of a plain node, those of its subsystem of a multipath one. */
static void read_controllers(struct node *node)
{
	char dir[128], state[16];
	struct dirent *entry;
	DIR *stream;

	snprintf(dir, sizeof(dir), SYSFS_GENERIC "/%s/device", node->name);
	if (!strncmp(node->parent, "nvme-subsys", 11)) {
		stream = opendir(dir);
		while (stream && (entry = readdir(stream))) {
			unsigned int number;
			char rest;

			if (sscanf(entry->d_name, "nvme%u%c", &number, &rest) != 1)
				continue;
			if (strlen(node->controllers) + strlen(entry->d_name) + 2 >
			    sizeof(node->controllers))
				break;
			if (*node->controllers)
				strcat(node->controllers, " ");
			strcat(node->controllers, entry->d_name);
		}
		if (stream)
			closedir(stream);
	} else {
		snprintf(node->controllers, sizeof(node->controllers), "%s",
			 node->parent);
	}
	for (const char *at = node->controllers; *at; at += *at == ' ') {
		int len = strcspn(at, " ");

		if (!*node->transport)
			read_line(node->transport, sizeof(node->transport),
				  SYSFS_CTRL "/%.*s/transport", len, at);
		if (!*node->dead &&
		    read_line(state, sizeof(state), SYSFS_CTRL "/%.*s/state",
			      len, at) && strcmp(state, "live"))
			strcpy(node->dead, state);
		at += len;
	}
}

static void read_node(struct node *node, const char *name)
{
	char link[128], target[PATH_MAX], line[32];
	unsigned int major, minor;
	ssize_t len;
	int fd;

	memset(node, 0, sizeof(*node));
	snprintf(node->name, sizeof(node->name), "%s", name);
	snprintf(node->path, sizeof(node->path), "/dev/%s", node->name);
	snprintf(link, sizeof(link), SYSFS_GENERIC "/%s/device", name);
	len = readlink(link, target, sizeof(target) - 1);
	if (len > 0) {
		target[len] = '\0';
		snprintf(node->parent, sizeof(node->parent), "%.31s",
			 basename(target));
	}
	read_line(node->serial, sizeof(node->serial), "%s/serial", link);
	read_line(node->model, sizeof(node->model), "%s/model", link);
	read_line(node->firmware, sizeof(node->firmware), "%s/firmware_rev", link);
	if (read_line(line, sizeof(line), SYSFS_GENERIC "/%s/dev", name) &&
	    sscanf(line, "%u:%u", &major, &minor) == 2)
		node->dev = makedev(major, minor);
	/* ng0n1 and nvme0n1 are one namespace */
	snprintf(link, sizeof(link), "/sys/class/block/nvme%s", name + 2);
	if (!access(link, F_OK))
		snprintf(node->block, sizeof(node->block), "nvme%s",
			 node->name + 2);
	read_controllers(node);
	node->known = read_limits(name, &node->lim);
	node->nsid_known = node->known;
	if (node->known)
		return;
	memset(&node->lim, 0, sizeof(node->lim));
	/* the kernel's own driver says it to who may open the node */
	fd = open(node->path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		int nsid = ioctl(fd, NVME_IOCTL_ID);

		node->nsid_known = nsid > 0;
		node->lim.nsid = nsid > 0 ? nsid : 0;
		close(fd);
	}
}

static int is_node(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "ng", 2);
}

unsigned int find_nodes(struct node **nodes)
{
	struct dirent **entries;
	int i, n = scandir(SYSFS_GENERIC, &entries, is_node, versionsort);

	if (n < 0)
		n = 0;
	*nodes = must_alloc(n * sizeof(**nodes));
	for (i = 0; i < n; i++) {
		read_node(&(*nodes)[i], entries[i]->d_name);
		free(entries[i]);
	}
	if (n)
		free(entries);
	return n;
}

void find_node(const char *name, struct node *node)
{
	char path[PATH_MAX], link[64], target[PATH_MAX];
	struct stat st;
	ssize_t len;

	snprintf(path, sizeof(path), "%s%s", strchr(name, '/') ? "" : "/dev/", name);
	if (stat(path, &st))
		die("%s: %s: 'ngctl list' names the nodes there are, 'ngctl doctor' says why one may be missing", path,
		    strerror(errno));
	if (S_ISBLK(st.st_mode))
		die("%s is a block device: use the node of its namespace, /dev/ngXnY", path);
	snprintf(link, sizeof(link), "/sys/dev/char/%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	len = S_ISCHR(st.st_mode) ? readlink(link, target, sizeof(target) - 1) : -1;
	if (len > 0) {
		const char *base;

		target[len] = '\0';
		base = basename(target);
		if (!strncmp(base, "ng", 2)) {
			read_node(node, base);
			/* as it was named: a link, or made by hand */
			if (strlen(path) < sizeof(node->path))
				strcpy(node->path, path);
			return;
		}
	}
	die("%s is not the node of a namespace: 'ngctl list' names those there are",
	    path);
}

const char *node_access(const struct node *node)
{
	bool r = !faccessat(AT_FDCWD, node->path, R_OK, AT_EACCESS);
	bool w = !faccessat(AT_FDCWD, node->path, W_OK, AT_EACCESS);

	return r && w ? "rw" : r ? "r" : w ? "w" : "no";
}

const char *csi_name(unsigned int csi)
{
	switch (csi) {
	case NVMENG_CSI_NVM:
		return "NVM";
	case NVMENG_CSI_KV:
		return "Key Value";
	case NVMENG_CSI_ZNS:
		return "Zoned";
	default:
		return "unknown";
	}
}

const char *bytes(unsigned long long number, char *text)
{
	static const char units[][4] = { "B", "KiB", "MiB", "GiB", "TiB" };
	unsigned int unit = 0;

	while (number >= 1024 && number % 1024 == 0 &&
	       unit < ARRAY_SIZE(units) - 1) {
		number /= 1024;
		unit++;
	}
	snprintf(text, BYTES_LEN, "%llu %s", number, units[unit]);
	return text;
}

const char *node_format(const struct node *node, char *text, size_t size)
{
	const struct nvme_ng_limits *lim = &node->lim;
	char value[BYTES_LEN];
	int at;

	if (!node->known)
		return "-";
	if (lim->csi == NVMENG_CSI_KV) {
		snprintf(text, size, "keys %u B, values %s", lim->max_key_len,
			 bytes(lim->max_value_len, value));
		return text;
	}
	if (!lim->lba_size)
		return "no blocks";
	at = snprintf(text, size, "%u", lim->lba_size);
	if (lim->metadata_size)
		at += snprintf(text + at, size - at, "+%u", lim->metadata_size);
	at += snprintf(text + at, size - at, " B%s",
		       lim->features & NVME_NG_F_EXT_LBA ? " extended" : "");
	if (lim->pi_type)
		at += snprintf(text + at, size - at, ", PI type %u", lim->pi_type);
	if (lim->zone_size)
		snprintf(text + at, size - at, ", zones %s",
			 bytes(lim->zone_size * lim->lba_size, value));
	return text;
}

const char *driver_version(void)
{
	static char version[64];

	return read_line(version, sizeof(version),
			 "/sys/module/nvme_core/version") ? version : NULL;
}

bool driver_is_ours(void)
{
	const char *version = driver_version();

	return version && strstr(version, "+ng");
}

const char *driver_name(void)
{
	static char name[80];
	const char *version = driver_version();

	if (!version)
		return "kernel";
	if (!driver_is_ours())
		return "kernel's own";
	snprintf(name, sizeof(name), "nvme-ng %s", strstr(version, "+ng") + 3);
	return name;
}
