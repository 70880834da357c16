import AppLayout from "@cloudscape-design/components/app-layout";
import Box from "@cloudscape-design/components/box";
import SideNavigation from "@cloudscape-design/components/side-navigation";
import Spinner from "@cloudscape-design/components/spinner";
import TopNavigation from "@cloudscape-design/components/top-navigation";
import { lazy, Suspense, useEffect, useState } from "react";
import { Redirect, Route, Router, Switch } from "wouter";
import { useHashLocation } from "wouter/use-hash-location";
import { nameOf } from "../aws/clients";
import { LOCALES, type Locale, useWords } from "../i18n";
import { Boundary } from "./Boundary";
import { NoticeBar, NoticesProvider } from "./notices";
import { usePreferences } from "./preferences";
import { useAccess } from "./session";
import { SignIn } from "./SignIn";

const TrainingJobs = lazy(() => import("../pages/TrainingJobs"));
const CreateTrainingJob = lazy(() => import("../pages/CreateTrainingJob"));
const CreateTuningJob = lazy(() => import("../pages/CreateTuningJob"));
const SecurityGroup = lazy(() => import("../pages/SecurityGroup"));
const SecurityGroups = lazy(() => import("../pages/SecurityGroups"));
const TrainingJob = lazy(() => import("../pages/TrainingJob"));
const TuningJob = lazy(() => import("../pages/TuningJob"));
const TuningJobs = lazy(() => import("../pages/TuningJobs"));

export function App() {
  const { session } = useAccess();
  return (
    <Router hook={useHashLocation}>
      <Head />
      {session === undefined ? <SignIn /> : <NoticesProvider><Inside /></NoticesProvider>}
    </Router>
  );
}

/** The bar at the top: language, light or dark, and who is signed in. */
function Head() {
  const { t } = useWords();
  const { locale, setLocale, dark, setDark } = usePreferences();
  const { session, signOut } = useAccess();
  return (
    <div id="head">
      <TopNavigation
        identity={{ href: "#/jobs", logo: { src: "/console/wordmark.svg", alt: "Phalanx" } }}
        utilities={[
          {
            type: "menu-dropdown",
            text: LOCALES[locale],
            ariaLabel: t("head.language", { name: LOCALES[locale] }),
            iconName: "globe",
            items: (Object.keys(LOCALES) as Locale[]).map((id) => ({ id, text: LOCALES[id], lang: id })),
            onItemClick: ({ detail }) => setLocale(detail.id as Locale),
          },
          {
            type: "button",
            text: t(dark ? "head.light" : "head.dark"),
            iconName: dark ? "star" : "star-filled",
            onClick: () => setDark(!dark),
          },
          ...(session === undefined
            ? []
            : [
                { type: "button" as const, text: session.key.region, disableUtilityCollapse: false },
                {
                  type: "menu-dropdown" as const,
                  text: nameOf(session.identity),
                  description: session.identity.account,
                  iconName: "user-profile" as const,
                  items: [{ id: "out", text: t("head.signOut") }],
                  onItemClick: () => signOut(),
                },
              ]),
        ]}
      />
    </div>
  );
}

function Inside() {
  const { t } = useWords();
  const [location, navigate] = useHashLocation();
  const [open, setOpen] = useState(true);
  const section = `#/${location.split("/")[1]}`;
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [location]);
  return (
    <AppLayout
      headerSelector="#head"
      toolsHide
      navigationOpen={open}
      onNavigationChange={({ detail }) => setOpen(detail.open)}
      notifications={<NoticeBar />}
      stickyNotifications
      ariaLabels={{
        navigation: t("nav.label"),
        navigationToggle: t("nav.open"),
        navigationClose: t("nav.close"),
        notifications: t("nav.notices"),
      }}
      navigation={
        <SideNavigation
          header={{ text: "Phalanx", href: "#/jobs" }}
          activeHref={section}
          onFollow={(event) => {
            if (event.detail.external) return;
            event.preventDefault();
            navigate(event.detail.href.slice(1));
          }}
          items={[
            {
              type: "expandable-link-group",
              text: t("nav.training"),
              href: "#/jobs",
              defaultExpanded: true,
              items: [
                { type: "link", text: t("jobs.title"), href: "#/jobs" },
                { type: "link", text: t("tunings.title"), href: "#/tuning" },
              ],
            },
            {
              type: "expandable-link-group",
              text: t("nav.network"),
              href: "#/security-groups",
              defaultExpanded: true,
              items: [{ type: "link", text: t("groups.title"), href: "#/security-groups" }],
            },
          ]}
        />
      }
      content={
        <Boundary key={location}>
          <Suspense fallback={<Box textAlign="center" padding="xxl"><Spinner size="large" /></Box>}>
            <Switch>
              <Route path="/jobs" component={TrainingJobs} />
              <Route path="/create-job"><CreateTrainingJob /></Route>
              <Route path="/create-job/:name">{({ name }) => <CreateTrainingJob key={name} original={name} />}</Route>
              <Route path="/create-job/:name/clear">{({ name }) => <CreateTrainingJob key={name} original={name} plain />}</Route>
              <Route path="/jobs/:name">{({ name }) => <TrainingJob key={name} name={name} />}</Route>
              <Route path="/tuning" component={TuningJobs} />
              <Route path="/tuning/:name">{({ name }) => <TuningJob key={name} name={name} />}</Route>
              <Route path="/create-tuning"><CreateTuningJob /></Route>
              <Route path="/create-tuning/:name">{({ name }) => <CreateTuningJob key={name} original={name} />}</Route>
              <Route path="/security-groups" component={SecurityGroups} />
              <Route path="/security-groups/:id">{({ id }) => <SecurityGroup key={id} id={id} />}</Route>
              <Route path="/security-groups/:id/fit">{({ id }) => <SecurityGroup key={id} id={id} fitting />}</Route>
              <Route><Redirect to="/jobs" replace /></Route>
            </Switch>
          </Suspense>
        </Boundary>
      }
    />
  );
}
